//! What a build with nothing to do costs, beside `git status` and ninja in the
//! same tree.
//!
//!     cargo bench --profile dev -p tests --bench nothing_to_do
//!     cargo bench --profile dev -p tests --bench nothing_to_do -- --sizes 40x100,10000x3:plan
//!
//! A size is `COMPONENTSxFILES`: that many components with that many files each.
//! Their Dockerfiles read one file of each; with `:all` they read everything. With
//! `:plan` the images are not built, and `build --dry-run` is measured.
//!
//! The tree is made in the temporary folder (`TMPDIR`), and is gone at the end
//! with its images, also after a failure or Ctrl-C. What an engine keeps as its
//! build cache stays: there is no way to remove only a part of that.
//!
//! The tool is the binary that `cargo xtask` runs, in the same profile. ninja is
//! taken from `PATH`, or unpacked into `target/test-tools/` from Debian's package.
//!
//! The second table is of runs without what the first ones remember: the tool
//! without `target/xtask/`, git without the times in its index.
//!
//! Everything runs in turn, so that a slow minute of the machine is everybody's.
//! The files are in memory all the time: what is compared is work, not disks.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::engine::docker;
use tests::sized::{Reads, base, name, needed, place, write};
use tests::{Workspace, repository};

const DEFAULT_SIZES: &str = "40x100,1000x100";
const USAGE: &str = "usage: … -- [--sizes COMPONENTSxFILES[:all|:plan],…]";

/// A tree of more files is a large one, measured less often.
const SMALL: usize = 10_000;
const ROUNDS_SMALL: usize = 15;
const ROUNDS_LARGE: usize = 7;
const ROUNDS_COLD: usize = 3;

/// Neither git nor the tool trusts the times of a file that is younger.
const SETTLED: Duration = Duration::from_secs(3);

/// How often the memory of a process is looked at.
const GLANCE: Duration = Duration::from_micros(200);

/// Prints the path of a ninja, if there is one or one can be had.
const FIND_NINJA: &str = r#"
    command -v ninja && exit
    tools=target/test-tools
    if ! [ -x "$tools/usr/bin/ninja" ]; then
        mkdir -p "$tools/packages"
        (cd "$tools/packages" && apt-get download -qq ninja-build) >&2 || exit
        dpkg -x "$tools/packages/ninja-build"_*.deb "$tools" || exit
    fi
    echo "$PWD/$tools/usr/bin/ninja"
"#;

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let Some(arguments) = tests::bench_arguments() else { return ExitCode::SUCCESS };
    let Some(sizes) = sizes(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // Ctrl-C ends the running command; this then fails and cleans up.
    ctrlc::set_handler(|| IS_INTERRUPTED.store(true, Ordering::Relaxed)).expect("a handler");
    let tools = Tools::find();
    println!("{}", tools.facts());
    for size in sizes {
        if size.is_plan_only && !tools.can_plan() {
            eprintln!("{size}: skipped, this xtask has no --dry-run");
        } else {
            measure(&tools, size);
        }
    }
    ExitCode::SUCCESS
}

fn sizes(arguments: &[String]) -> Option<Vec<Size>> {
    let sizes = match arguments {
        [] => DEFAULT_SIZES,
        [option, sizes] if option == "--sizes" => sizes,
        _ => return None,
    };
    sizes.split(',').map(|size| size.parse().ok()).collect()
}

/// How large a tree is, and what is done with it.
#[derive(Clone, Copy)]
struct Size {
    components: usize,
    files: usize,
    reads: Reads,
    is_plan_only: bool,
}

impl Size {
    fn rounds(self) -> usize {
        if self.components * self.files > SMALL { ROUNDS_LARGE } else { ROUNDS_SMALL }
    }
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (text, option) = text.split_once(':').unwrap_or((text, ""));
        let (reads, is_plan_only) = match option {
            "" => (Reads::One, false),
            "all" => (Reads::All, false),
            "plan" => (Reads::One, true),
            _ => return Err(()),
        };
        let (components, files) = text.split_once('x').ok_or(())?;
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or(());
        Ok(Self { components: number(components)?, files: number(files)?, reads, is_plan_only })
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.reads == Reads::All { ":all" } else { "" };
        write!(out, "{}x{}{what}", self.components, self.files)
    }
}

/// The programs that are measured.
struct Tools {
    xtask: PathBuf,
    ninja: Option<PathBuf>,
}

impl Tools {
    fn find() -> Self {
        Self { xtask: tests::compile(), ninja: find_ninja() }
    }

    /// What the figures depend on.
    fn facts(&self) -> String {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let engine = docker(&["version", "--format", "{{.Server.Version}}"]);
        let git = run(Command::new("git").arg("--version"));
        let ninja = self.ninja.as_ref().map(|ninja| run(Command::new(ninja).arg("--version")));
        format!(
            "{cores} cores, Linux {}\nengine {}, {}, ninja {}",
            kernel.trim(),
            String::from_utf8_lossy(&engine).trim(),
            text(&git).trim(),
            ninja.as_ref().map_or("-".into(), text).trim(),
        )
    }

    fn can_plan(&self) -> bool {
        text(&run(Command::new(&self.xtask).args(["build", "--help"]))).contains("--dry-run")
    }
}

fn find_ninja() -> Option<PathBuf> {
    let mut bash = Command::new("bash");
    let found = bash.current_dir(repository()).args(["-c", FIND_NINJA]).output().ok()?;
    let path = text(&found).trim().to_owned();
    (!path.is_empty()).then(|| path.into())
}

fn measure(tools: &Tools, size: Size) {
    let tree = Tree::new(tools, size);
    let title = tree.title();
    tree.commit();
    tree.write_ninja();
    thread::sleep(SETTLED);
    let built = if size.is_plan_only { String::new() } else { tree.build() };
    println!("\n{title}{built}");
    tree.compare("nothing changed", size.rounds(), &[What::Tool, What::Status, What::Ninja]);
    let cold = [What::ToolCold, What::StatusCold, What::Cat];
    tree.compare("nothing remembered", ROUNDS_COLD, &cold);
    tree.remove();
}

/// A workspace of some size.
struct Tree<'a> {
    tools: &'a Tools,
    size: Size,
    workspace: Workspace,
}

impl<'a> Tree<'a> {
    fn new(tools: &'a Tools, size: Size) -> Self {
        eprintln!("{size}: writing files");
        Self { tools, size, workspace: write(size.components, size.files, size.reads) }
    }

    fn title(&self) -> String {
        let files = run(&mut self.bash("find src -type f | wc -l"));
        let bytes = run(&mut self.bash("find src -type f -print0 | xargs -0 cat | wc -c"));
        let number = |output: &Output| text(output).trim().parse::<u64>().expect("a number");
        let (files, mib) = (number(&files), number(&bytes) >> 20);
        format!("{} components, {files} files, {mib} MiB", self.size.components)
    }

    fn commit(&self) {
        eprintln!("{}: committing them", self.size);
        // No housekeeping of git may run on while something is measured.
        let settings = ["user.name=bench", "user.email=bench@example.org", "gc.auto=0"];
        let settings = settings.iter().chain(&["maintenance.auto=false", "commit.gpgsign=false"]);
        let settings: Vec<&str> = settings.flat_map(|setting| ["-c", setting]).collect();
        for arguments in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "All"]] {
            run(self.command("git").args(&settings).args(arguments));
        }
    }

    /// Makes a stamp of each component's files, and of the stamps of what it
    /// needs, with ninja.
    fn write_ninja(&self) {
        let mut text = "builddir = target/ninja\nrule stamp\n  command = touch $out\n".to_owned();
        for component in 0..self.size.components {
            text.push_str(&self.ninja_edge(component));
        }
        self.workspace.write("target/ninja/build.ninja", &text);
        if self.tools.ninja.is_some() {
            eprintln!("{}: touching stamps with ninja", self.size);
            run(&mut self.ninja());
        }
    }

    fn ninja_edge(&self, component: usize) -> String {
        let component_name = name(component);
        let src = format!("src/{component_name}");
        let mut edge = format!("build target/ninja/{component_name}: stamp");
        edge.push_str(&format!(" {src}/build/tt-{component_name}.dockerfile"));
        if needed(component).next().is_some() {
            edge.push_str(&format!(" {src}/build/component.dep"));
        }
        for file in 0..self.size.files {
            edge.push_str(&format!(" {src}/{}", place(file)));
        }
        let before: BTreeSet<usize> = needed(component).chain(base(component)).collect();
        for before in before {
            edge.push_str(&format!(" target/ninja/{}", name(before)));
        }
        edge + "\n"
    }

    /// Builds every image, and tells how long that took.
    fn build(&self) -> String {
        let started = Instant::now();
        let mut command = self.xtask();
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the tool starts");
        let (mut built, mut last) = (0, String::new());
        for line in BufReader::new(child.stderr.take().expect("a pipe")).lines() {
            last = line.expect("output is UTF-8");
            if last.contains("| built in ") {
                built += 1;
                if built % 20 == 0 {
                    eprintln!("{}: {built} images built", self.size);
                }
            }
        }
        let status = child.wait().expect("the tool ends");
        assert!(status.success() && built == self.size.components, "{status}: {last}");
        format!(", built in {:.1} s", started.elapsed().as_secs_f64())
    }

    /// Runs everything in turn, and prints what that cost.
    fn compare(&self, title: &str, rounds: usize, all: &[What]) {
        let able: Vec<What> = all.iter().copied().filter(|what| self.is_able(*what)).collect();
        eprintln!("{}: {title}", self.size);
        for what in &able {
            // To warm up.
            self.time(*what);
        }
        // To watch memory slows a run down, so these are not timed.
        let peaks: Vec<_> = able.iter().map(|what| self.peak(*what)).collect();
        let mut times = vec![Vec::new(); able.len()];
        for _ in 0..rounds {
            for (what, times) in able.iter().zip(&mut times) {
                times.push(self.time(*what));
            }
        }
        let mut rows: Vec<Row> = Vec::new();
        for ((what, peak), times) in able.iter().zip(peaks).zip(times) {
            rows.push(Row::new(self.label(*what), times, peak));
        }
        let status = rows[able.iter().position(|what| what.is_status()).expect("status")].median;
        println!("\n{:<34}{:>11}{:>11}{:>14}{:>10}", title, "median", "min", "/ git status", "MiB");
        for row in rows {
            println!("{}", row.line(status));
        }
        for what in all.iter().filter(|what| !able.contains(what)) {
            println!("{:<34}{:>11}{:>11}{:>14}{:>10}", self.label(*what), "-", "-", "-", "-");
        }
    }

    fn is_able(&self, what: What) -> bool {
        what != What::Ninja || self.tools.ninja.is_some()
    }

    fn label(&self, what: What) -> String {
        let build = if self.size.is_plan_only { "xtask build --dry-run" } else { "xtask build" };
        match what {
            What::Tool | What::ToolCold => build.to_owned(),
            What::Status | What::StatusCold => "git status".to_owned(),
            What::Ninja => "ninja".to_owned(),
            What::Cat => "cat of all the files".to_owned(),
        }
    }

    fn command_for(&self, what: What) -> Command {
        match what {
            What::Tool | What::ToolCold => self.xtask(),
            What::Status | What::StatusCold => {
                let mut git = self.command("git");
                git.arg("status");
                git
            }
            What::Ninja => self.ninja(),
            What::Cat => self.bash("find src -type f -print0 | xargs -0 cat >/dev/null"),
        }
    }

    /// Lets it forget what it knows.
    fn prepare(&self, what: What) {
        match what {
            What::ToolCold => {
                let state = self.workspace.root().join("target/xtask");
                if state.exists() {
                    fs::remove_dir_all(state).expect("it can be removed");
                }
            }
            What::StatusCold => {
                // An index with no times in it: every file has to be read.
                fs::remove_file(self.workspace.root().join(".git/index")).expect("an index");
                run(self.command("git").args(["read-tree", "HEAD"]));
            }
            What::Tool | What::Status | What::Ninja | What::Cat => {}
        }
    }

    fn time(&self, what: What) -> Duration {
        self.prepare(what);
        let mut command = self.command_for(what);
        let started = Instant::now();
        let output = command.output().expect("it starts");
        let time = started.elapsed();
        self.check(what, &succeeded(&command, output));
        time
    }

    /// That it did what it should: nothing.
    fn check(&self, what: What, output: &Output) {
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = text(output);
        let is_well = match what {
            What::Tool | What::ToolCold if self.size.is_plan_only => true,
            What::Tool | What::ToolCold => {
                errors.contains(&format!("finished: 0 built, {} up to date", self.size.components))
            }
            What::Status | What::StatusCold => said.contains("nothing to commit"),
            What::Ninja => said.contains("no work to do"),
            What::Cat => true,
        };
        assert!(is_well, "{} had something to do:\n{said}\n{errors}", self.label(what));
    }

    /// The most memory that it had, in MiB, as far as its end was not missed.
    fn peak(&self, what: What) -> Option<f64> {
        self.prepare(what);
        let mut command = self.command_for(what);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let file = PathBuf::from(format!("/proc/{}/status", child.id()));
        let mut peak = None;
        let status = loop {
            // A process that has just ended has no memory: what was seen last counts.
            peak = high_water(&file).or(peak);
            if let Some(status) = child.try_wait().expect("it is ours") {
                break status;
            }
            thread::sleep(GLANCE);
        };
        assert!(status.success(), "{} failed: {status}", self.label(what));
        // Not of the many processes that cat the files.
        peak.filter(|_| what != What::Cat)
    }

    /// Removes everything, and says so if that did not work.
    fn remove(self) {
        eprintln!("{}: removing the images", self.size);
        let own = self.workspace.own("reference=*tt-*");
        drop(self);
        let left = docker(&["images", "--quiet", "--filter", &own]);
        assert!(left.is_empty(), "images are left: docker images --filter '{own}'");
    }

    fn xtask(&self) -> Command {
        let mut xtask = Command::new(&self.tools.xtask);
        xtask.arg("build").current_dir(self.workspace.root()).stdin(Stdio::null());
        xtask.env_remove("PAI_CONFIG_DIR").env("NO_COLOR", "1");
        if self.size.is_plan_only {
            xtask.arg("--dry-run");
        }
        xtask
    }

    fn ninja(&self) -> Command {
        let mut ninja = self.command(self.tools.ninja.as_ref().expect("a ninja"));
        ninja.args(["-f", "target/ninja/build.ninja"]);
        ninja
    }

    fn bash(&self, script: &str) -> Command {
        let mut bash = self.command("bash");
        bash.args(["-c", script]);
        bash
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(self.workspace.root()).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

/// What is compared.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Tool,
    Status,
    Ninja,
    /// The tool without `target/xtask/`.
    ToolCold,
    /// git without the times in its index.
    StatusCold,
    Cat,
}

impl What {
    fn is_status(self) -> bool {
        matches!(self, Self::Status | Self::StatusCold)
    }
}

/// A line of a table.
struct Row {
    label: String,
    median: Duration,
    min: Duration,
    peak: Option<f64>,
}

impl Row {
    fn new(label: String, mut times: Vec<Duration>, peak: Option<f64>) -> Self {
        times.sort_unstable();
        Self { label, median: times[times.len() / 2], min: times[0], peak }
    }

    fn line(&self, status: Duration) -> String {
        let time = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let ratio = self.median.div_duration_f64(status);
        let peak = self.peak.map_or("-".to_owned(), |peak| format!("{peak:.1}"));
        let (median, min) = (time(self.median), time(self.min));
        format!("{:<34}{median:>11}{min:>11}{ratio:>14.2}{peak:>10}", self.label)
    }
}

/// The most memory that a process had so far, in MiB.
fn high_water(status: &Path) -> Option<f64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    succeeded(command, output)
}

fn succeeded(command: &Command, output: Output) -> Output {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!IS_INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
