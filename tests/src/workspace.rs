use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Output, Terminal, engine};

/// Nothing here takes longer; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(5);

/// A scratch workspace, gone with its images when dropped.
#[derive(Debug)]
pub struct Workspace {
    dir: TempDir,
    prefix: String,
    secrets: Vec<String>,
    replacements: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Workspace {
    /// An empty folder.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // The engine may still hold images of an earlier process with this one's number.
        let unique: String = std::iter::repeat_with(fastrand::alphanumeric).take(7).collect();
        let prefix = format!("t{}x{count:03}-", unique.to_lowercase());
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().display().to_string();
        Self {
            replacements: vec![(root, "[ROOT]".into()), (prefix.clone(), "tt-".into())],
            dir,
            prefix,
            secrets: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Another checkout of the same files, with the same prefix.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut other = Self::new();
        let (from, to) = (self.root().join("src"), other.root().join("src"));
        let copied = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(copied.expect("cp runs").success());
        other.prefix.clone_from(&self.prefix);
        other
    }

    /// The workspace's root.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// `text` with the unique prefix in place of `tt-`.
    pub fn own(&self, text: &str) -> String {
        text.replace("tt-", &self.prefix)
    }

    /// Adds a file, with the folders above it.
    #[must_use]
    pub fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Adds a component with one image that is made by one Dockerfile.
    #[must_use]
    pub fn image(self, component: &str, dockerfile: &str) -> Self {
        self.file(&format!("src/{component}/build/tt-{component}.dockerfile"), dockerfile)
    }

    /// Adds an executable file.
    #[must_use]
    pub fn script(self, path: &str, text: &str) -> Self {
        let path = self.write(path, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        self
    }

    /// Writes a file and tells where.
    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        self.write_bytes(path, self.own(text).as_bytes())
    }

    /// Writes a file as it is and tells where.
    pub fn write_bytes(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(self.own(path));
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// Writes a file as editors do: aside and then in its place. Whoever looks finds the
    /// old text or the new one, and not the empty file that a write in place begins with,
    /// which lasts as long as a busy disk likes.
    pub fn save(&self, path: &str, text: &str) {
        let aside = self.write("target/aside", text);
        let path = self.root().join(self.own(path));
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::rename(aside, path).expect("a file");
    }

    /// Makes it a git repository that tracks everything in it.
    #[must_use]
    pub fn git(self) -> Self {
        for arguments in [&["init", "-q"][..], &["add", "-Af"]] {
            let git = Command::new("git").current_dir(self.root()).args(arguments).status();
            assert!(git.expect("git runs").success());
        }
        self
    }

    /// A text that no output may hold.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// A text that differs from run to run, and the word for it in output.
    #[must_use]
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        self.replacements.insert(0, (from.to_owned(), to.to_owned()));
        self
    }

    /// Configures the registry at an address, for `-c .`; output shows it as `[REGISTRY]`.
    #[must_use]
    pub fn pushing_to(self, address: &str) -> Self {
        let config = format!(
            "cluster:\n  docker-registry:\n    domain: {address}\n    namespace: ns\n    tag: v1\n"
        );
        self.replace(address, "[REGISTRY]").file("services-configuration.yaml", &config)
    }

    /// A variable for every run.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A base image with a shell, `tt-box`, in the engine.
    #[must_use]
    pub fn with_box(self) -> Self {
        engine::import_busybox(&self.own("tt-box"), "PATH=/bin");
        self
    }

    /// Another `tt-box` in the place of the first.
    #[must_use]
    pub fn with_other_box(self) -> Self {
        engine::import_busybox(&self.own("tt-box"), "PATH=/bin OTHER=yes");
        self
    }

    /// Runs the binary to its end.
    pub fn xtask(&self, arguments: &[&str]) -> Output {
        self.start(arguments).finish()
    }

    /// Runs the binary to its end with these variables in its environment.
    pub fn xtask_with(&self, variables: &BTreeMap<String, String>, arguments: &[&str]) -> Output {
        self.start_with(variables, arguments).finish()
    }

    /// Runs the binary to its end in a folder of the workspace.
    pub fn xtask_in(&self, folder: &str, arguments: &[&str]) -> Output {
        self.run(self.command(arguments).current_dir(self.root().join(folder))).finish()
    }

    /// Starts the binary.
    pub fn start(&self, arguments: &[&str]) -> Running<'_> {
        self.run(&mut self.command(arguments))
    }

    /// Starts the binary with these variables in its environment.
    pub fn start_with(
        &self,
        variables: &BTreeMap<String, String>,
        arguments: &[&str],
    ) -> Running<'_> {
        self.run(self.command(arguments).envs(variables))
    }

    /// Starts a command.
    pub fn run(&self, command: &mut Command) -> Running<'_> {
        let mut child = command.spawn().expect("it starts");
        let errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut pipe = child.stdout.take().expect("a pipe");
        let printed = thread::spawn(move || {
            let mut printed = Vec::new();
            pipe.read_to_end(&mut printed).expect("a pipe");
            printed
        });
        Running { workspace: self, child, errors, seen: Vec::new(), printed }
    }

    /// Starts the binary on a terminal of so many columns.
    pub fn start_on_terminal(&self, columns: u16, arguments: &[&str]) -> Terminal {
        let mut command = self.command(arguments);
        Terminal::start(command.env_remove("CI"), columns, &self.prefix)
    }

    /// Every file and folder of the tree but `target/` and `.git/`: path, mode,
    /// contents.
    pub fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(self.root(), self.root(), &mut found);
        found.sort();
        found
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.prepared(Command::new(crate::binary()), arguments)
    }

    /// The binary without arguments, by way of a command that runs another.
    pub fn command_below(&self, command: &[&str]) -> Command {
        let mut below = Command::new(command[0]);
        below.args(&command[1..]).arg(crate::binary());
        self.prepared(below, &[])
    }

    /// Commands for bash, which fail if one of them fails; the binary is `$XTASK`.
    pub fn bash(&self, commands: &str) -> Command {
        let mut bash = self.prepared(Command::new("bash"), &["-euo", "pipefail", "-c", commands]);
        bash.env("XTASK", crate::binary());
        bash
    }

    fn prepared(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments.iter().map(|argument| self.own(argument)))
            .current_dir(self.root())
            .env_remove("PAI_CONFIG_DIR")
            .env_remove("DOCKER_BUILDKIT")
            .env_remove("GITHUB_ACTIONS")
            .env("NO_COLOR", "1")
            .env("DOCKER_CONFIG", self.root().join("target/no-docker-config"))
            .envs(self.environment.iter().map(|(name, value)| (name, self.own(value))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn output(&self, raw: &process::Output) -> Output {
        for stream in [&raw.stdout, &raw.stderr] {
            let text = String::from_utf8_lossy(stream);
            for secret in &self.secrets {
                assert!(!text.contains(secret.as_str()), "a secret was shown:\n{text}");
            }
        }
        Output::new(raw, &self.replacements)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        engine::remove_images_with(&self.prefix);
        // Earlier ones have no name, or one that the tool keeps them by. An engine that is full of
        // them becomes slow.
        let built = std::fs::read_to_string(self.root().join("target/xtask/built"));
        engine::remove_images(built.unwrap_or_default().lines());
    }
}

/// The binary at work.
#[derive(Debug)]
pub struct Running<'a> {
    workspace: &'a Workspace,
    child: Child,
    errors: BufReader<process::ChildStderr>,
    seen: Vec<u8>,
    printed: JoinHandle<Vec<u8>>,
}

impl Running<'_> {
    /// Reads standard error until a line holds `text`.
    pub fn wait_for(&mut self, text: &str) {
        let text = self.workspace.own(text);
        let _killed_if_it_hangs = self.watchdog();
        loop {
            let start = self.seen.len();
            let read = self.errors.read_until(b'\n', &mut self.seen).expect("a pipe");
            let line = String::from_utf8_lossy(&self.seen[start..]);
            if line.contains(&text) {
                return;
            }
            let all = String::from_utf8_lossy(&self.seen);
            assert!(read > 0, "it ended without a line with '{text}':\n{all}");
        }
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.id(), signal);
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Output {
        let _killed_if_it_hangs = self.watchdog();
        self.errors.read_to_end(&mut self.seen).expect("a pipe");
        let stdout = self.printed.join().expect("no panic");
        let status = self.child.wait().expect("it ends");
        self.workspace.output(&process::Output { status, stdout, stderr: self.seen })
    }

    /// Kills the binary if what is given lives longer than any wait should take: a
    /// test that waits for it then fails, and tells what it saw.
    fn watchdog(&self) -> mpsc::Sender<()> {
        let (alive, end) = mpsc::channel();
        let id = self.id();
        thread::spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process(id, Signal::KILL);
            }
        });
        alive
    }

    fn id(&self) -> Pid {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        id.expect("a process id")
    }
}

/// Waits until `done`, and fails with `what` if it takes too long.
///
/// # Panics
///
/// After five minutes.
pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what} took too long");
        thread::sleep(Duration::from_millis(20));
    }
}

fn list(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        let shown = path.strip_prefix(root).expect("it lies below").display().to_string();
        if shown == "target" || shown == ".git" {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            found.push(format!("{shown}/ {mode:o}"));
            list(root, &path, found);
        } else if metadata.is_symlink() {
            found.push(format!("{shown} -> {}", fs::read_link(&path).expect("a link").display()));
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.push(format!("{shown} {mode:o} {}", String::from_utf8_lossy(&bytes)));
        }
    }
}
