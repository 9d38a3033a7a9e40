//! What it takes to hand a whole folder to the engine, beside the docker CLI with
//! BuildKit: in turn, in the same run, each with a tree of its own.
//!
//!     cargo bench --profile dev -p tests --bench context
//!     cargo bench --profile dev -p tests --bench context -- 4x262144,50000x4
//!
//! A size is `FILESxKIB`. The image is `FROM scratch` with `COPY . /`, so that nothing
//! may be left out. The files are random and new in each round: the engine has never
//! seen them. `changed` is the build after one more small file was written.
//!
//! What is printed is the median of the rounds, and the most memory that the process of
//! either ever had. What was written before is on the disk when a measurement begins.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tests::engine::cli_with_buildkit;
use tests::{Running, Workspace};

const DEFAULT_SIZES: &str = "4x262144,50000x4";
const ROUNDS: usize = 3;
const FILES_PER_FOLDER: usize = 100;

/// The tool does not trust the times of a file that is younger.
const SETTLED: Duration = Duration::from_secs(3);

/// A build, and what its process took.
#[derive(Clone, Copy)]
struct Run {
    time: Duration,
    /// In MiB.
    memory: u64,
}

fn main() -> ExitCode {
    let Some(arguments) = tests::bench_arguments() else { return ExitCode::SUCCESS };
    tests::compile();
    let cli = cli_with_buildkit().expect("a docker CLI with BuildKit");
    println!(
        "{:<12}{:<10}{:>10}{:>10}{:>8}{:>10}{:>10}",
        "", "", "xtask", "docker", "ratio", "xtask", "docker"
    );
    for size in arguments.first().map_or(DEFAULT_SIZES, String::as_str).split(',') {
        let numbers: Vec<usize> = size.split('x').filter_map(|part| part.parse().ok()).collect();
        let [files, kib] = numbers[..] else {
            eprintln!("'{size}' is no size: FILESxKIB");
            return ExitCode::from(2);
        };
        print!("{}", measure(size, files, kib, &cli));
    }
    ExitCode::SUCCESS
}

/// Two lines: the first build, and the one after a change.
fn measure(size: &str, files: usize, kib: usize, cli: &Path) -> String {
    let mut runs = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        eprintln!("{size}: round {round} of {ROUNDS}");
        let workspace = tree(files, kib);
        let [first, changed] = first_and_changed(&workspace, || workspace.start(&["build"]));
        runs[0].push(first);
        runs[2].push(changed);
        drop(workspace);

        let workspace = tree(files, kib);
        let name = workspace.own("tt-cli");
        let dockerfile = workspace.own("build/tt-a.dockerfile");
        let build = || {
            let mut docker = Command::new(cli);
            docker.args(["build", "--quiet", "--tag", &name, "--file", &dockerfile, "."]);
            docker.current_dir(workspace.root().join("src/a")).env("DOCKER_BUILDKIT", "1");
            workspace.run(docker.stdout(Stdio::piped()).stderr(Stdio::piped()))
        };
        let [first, changed] = first_and_changed(&workspace, build);
        runs[1].push(first);
        runs[3].push(changed);
    }
    let mut text = String::new();
    for (what, runs) in [("first", &runs[..2]), ("changed", &runs[2..])] {
        let [own, docker] = [&runs[0], &runs[1]].map(|runs| median(runs));
        let ratio = own.time.as_secs_f64() / docker.time.as_secs_f64();
        let _ = writeln!(
            text,
            "{size:<12}{what:<10}{:>8.2} s{:>8.2} s{ratio:>8.2}{:>6} MiB{:>6} MiB",
            own.time.as_secs_f64(),
            docker.time.as_secs_f64(),
            own.memory,
            docker.memory
        );
    }
    text
}

/// A component of so many files of so many KiB.
fn tree(files: usize, kib: usize) -> Workspace {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY . /\n");
    let mut contents = vec![0; kib * 1024];
    for file in 0..files {
        fastrand::fill(&mut contents);
        let path = format!("src/a/d{}/f{file}", file / FILES_PER_FOLDER);
        workspace.write_bytes(&path, &contents);
    }
    workspace
}

fn first_and_changed<'a>(workspace: &Workspace, start: impl Fn() -> Running<'a>) -> [Run; 2] {
    thread::sleep(SETTLED);
    let first = run(&start);
    workspace.write("src/a/d0/new", &fastrand::u64(..).to_string());
    [first, run(&start)]
}

fn run<'a>(start: impl Fn() -> Running<'a>) -> Run {
    let synced = Command::new("sync").status();
    assert!(synced.expect("sync runs").success());
    let started = Instant::now();
    let mut running = start();
    let mut memory = 0;
    while running.is_alive() {
        memory = most_memory(running.process()).unwrap_or(memory);
        thread::sleep(Duration::from_millis(5));
    }
    let time = started.elapsed();
    let _ = running.finish().exits_with(0);
    Run { time, memory: memory >> 10 }
}

/// The most memory that a process had so far, in KiB.
fn most_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The median time, and the most memory.
fn median(runs: &[Run]) -> Run {
    let mut times: Vec<Duration> = runs.iter().map(|run| run.time).collect();
    times.sort();
    let memory = runs.iter().map(|run| run.memory).max().unwrap_or_default();
    Run { time: times[times.len() / 2], memory }
}
