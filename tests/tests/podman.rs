//! A machine without a Docker engine: with Podman, the tool runs `podman system service` for as long
//! as a command lasts; without it, the tool says what to install.
//!
//! Each command has a mount namespace in which nothing listens at the default socket. The real
//! Podman is the one that `tests/run` gets: tests that need it are left out, and say so, where it or
//! root is missing.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::{Expect, expect};
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use tests::{Output, Running, Workspace, repository, wait_until};

/// Hides the default socket, and the engines that are installed, from a command.
const HIDE: &str = r#"mount -t tmpfs tmpfs /run
for file in /usr/sbin/dockerd /usr/bin/dockerd /usr/local/sbin/dockerd /usr/local/bin/dockerd /usr/bin/podman; do
    [ ! -e $file ] || mount --bind /dev/null $file
done
exec "$@""#;

const NOTE: &str = "note: using Podman ";

/// A workspace on a machine without a Docker engine.
struct Machine {
    workspace: Workspace,
    /// The temporary folder of the tool, and Podman's images.
    dir: TempDir,
    /// The folder of Podman, if it is installed.
    podman: Option<PathBuf>,
}

impl Machine {
    fn new(podman: Option<PathBuf>) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("left out: only root can hide the engine's socket");
            return None;
        }
        Some(Self { workspace: workspace(), dir: tempfile::tempdir().unwrap(), podman })
    }

    fn with_podman() -> Option<Self> {
        let tools = repository().join("target/test-tools/engines/engine-podman/engine-bin");
        if tools.join("podman").exists() {
            return Self::new(Some(tools));
        }
        eprintln!("left out: there is no Podman, which 'bash tests/engine get podman' gets");
        None
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command =
            self.workspace.command_below(&["unshare", "--mount", "sh", "-c", HIDE, "sh"]);
        let path = env::var_os("PATH").unwrap();
        let path = env::join_paths(self.podman.clone().into_iter().chain(env::split_paths(&path)));
        command
            .args(arguments)
            .env("PATH", path.unwrap())
            .env("TMPDIR", self.dir.path())
            .env("XTASK_PODMAN_DIR", self.store())
            .env("ENGINE_STORAGE", "vfs")
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        command
    }

    fn start(&self, arguments: &[&str]) -> Running<'_> {
        self.workspace.run(&mut self.command(arguments))
    }

    /// Runs a command to its end, after which no service is left.
    fn xtask(&self, arguments: &[&str]) -> Output {
        let output = self.start(arguments).finish();
        self.ends_serving();
        output
    }

    /// What was killed last may take a moment on a busy machine.
    fn ends_serving(&self) {
        wait_until("the end of the service", || !self.is_serving());
    }

    fn builds(&self, expected: &[&str]) {
        let output = self.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), expected, "{}", output.stderr);
        assert_eq!(output.stderr.matches(NOTE).count(), 1, "{}", output.stderr);
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Whether a process of Podman runs, or a `RUN` of the workspace, or the socket's folder is there.
    fn is_serving(&self) -> bool {
        let variable = format!("XTASK_PODMAN_DIR={}", self.store().display());
        let has = |file: PathBuf, text: &str| {
            let bytes = fs::read(file).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(text)
        };
        let marker = self.workspace.own("tt-marker");
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        let mut serving = processes.filter(|process| {
            has(process.join("environ"), &variable) || has(process.join("cmdline"), &marker)
        });
        let entries = fs::read_dir(self.dir.path()).unwrap().flatten();
        let mut folders =
            entries.filter(|it| it.file_name().to_string_lossy().starts_with("xtask-"));
        serving.next().is_some() || folders.next().is_some()
    }

    /// An instruction that is under way, of a build that was started.
    fn running_instruction(&self) -> Running<'_> {
        self.workspace.write(
            "src/a/build/tt-a.dockerfile",
            "FROM tt-base\nRUN echo under way; sleep 1000; echo tt-marker\n",
        );
        let mut running = self.start(&["build"]);
        running.wait_for("| under way");
        assert!(self.is_serving());
        running
    }
}

fn workspace() -> Workspace {
    let busybox = fs::read(repository().join("target/test-tools/bin/busybox")).unwrap();
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/sleep\n")
        .image("a", "FROM tt-base\nCOPY f /\nRUN read f < /f; echo f is $f\n")
        .file("src/a/f", "1\n");
    let program = workspace.write_bytes("src/base/busybox", &busybox);
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    workspace
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

fn fails(machine: &Machine, error: &Expect) {
    let output = machine.xtask(&["build"]).exits_with(1);
    error.assert_eq(output.error());
    assert!(is_empty(machine.dir.path()));
}

#[test]
fn podman_builds_where_no_docker_engine_answers() {
    let Some(machine) = Machine::with_podman() else { return };
    machine.builds(&["base", "a"]);
    machine.builds(&[]);
    machine.workspace.write("src/a/f", "2\n");
    machine.builds(&["a"]);
    let doctor = machine.xtask(&["doctor"]).exits_with(0);
    assert!(doctor.stdout.contains(" at podman system service\n"), "{}", doctor.stdout);
    let list = machine.xtask(&["list"]).exits_with(0);
    assert!(list.stdout.contains("up to date"), "{}", list.stdout);
    let json = machine.xtask(&["build", "--progress", "json"]).exits_with(0);
    // On a busy machine it may say before that it waits for Podman.
    let first = json.stdout.lines().find(|line| !line.contains("waiting_for")).unwrap();
    assert!(first.contains(r#""event":"engine_started","engine":"Podman "#), "{first}");
    machine.workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-base\nRUN echo no; exit 3\n");
    let failed = machine.xtask(&["build"]).exits_with(1);
    assert!(failed.stderr.contains("src/a/build/tt-a.dockerfile:2"), "{}", failed.stderr);
    let usage = machine.xtask(&["build", "none"]).exits_with(2);
    assert!(!usage.stderr.contains("Podman"), "{}", usage.stderr);
    let graph = machine.xtask(&["graph"]).exits_with(0);
    assert!(!graph.stderr.contains("Podman"), "{}", graph.stderr);
}

#[test]
fn podman_ends_with_the_command_that_started_it() {
    let Some(machine) = Machine::with_podman() else { return };
    machine.builds(&["base", "a"]);
    let running = machine.running_instruction();
    running.interrupt();
    let _ = running.finish().exits_with(130);
    machine.ends_serving();

    let running = machine.running_instruction();
    running.signal(Signal::KILL);
    drop(running.finish());
    machine.ends_serving();
    let containers = Command::new(machine.podman.as_ref().unwrap().join("podman"))
        .args(["ps", "--all", "--external", "--quiet"])
        .env("XTASK_PODMAN_DIR", machine.store())
        .env("ENGINE_STORAGE", "vfs")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(containers.stdout).unwrap(), "");
}

#[test]
fn watch_keeps_podman_until_it_ends() {
    let Some(machine) = Machine::with_podman() else { return };
    let mut running = machine.start(&["watch"]);
    running.wait_for(NOTE);
    running.wait_for("watching: ");
    for text in ["2\n", "3\n"] {
        machine.workspace.save("src/a/f", text);
        running.wait_for(&format!("f is {text}"));
        running.wait_for("watching: ");
    }
    running.interrupt();
    let output = running.finish().exits_with(0);
    machine.ends_serving();
    assert_eq!(output.stderr.matches(NOTE).count(), 1, "{}", output.stderr);
}

/// A program in the place of Podman.
fn podman_is(bin: &Path, script: &str) {
    let program = bin.join("podman");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_podman_that_loses_a_race_for_its_locks_is_started_again() {
    let Some(mut machine) = Machine::with_podman() else { return };
    let real = machine.podman.replace(machine.dir.path().join("bin")).unwrap();
    let (bin, real) = (machine.podman.clone().unwrap(), real.join("podman"));
    fs::create_dir(&bin).unwrap();
    let race = "Error: failed to get new shm lock manager: failed to create 2048 locks in \
                /libpod_lock: file exists";
    podman_is(
        &bin,
        &format!(
            "#!/bin/sh\nif mkdir '{}/lost' 2>/dev/null; then\necho '{race}' >&2\nexit 125\nfi\n\
             exec '{}' \"$@\"\n",
            bin.display(),
            real.display()
        ),
    );
    machine.builds(&["base", "a"]);
    assert!(bin.join("lost").exists());
    // One that always loses is not started for ever.
    podman_is(&bin, &format!("#!/bin/sh\necho '{race}' >&2\nexit 125\n"));
    let failed = machine.xtask(&["build"]).exits_with(1);
    assert!(failed.error().contains(race), "{}", failed.stderr);
}

#[test]
fn a_podman_that_does_not_start_says_why() {
    let bin = tempfile::tempdir().unwrap();
    let Some(machine) = Machine::new(Some(bin.path().to_owned())) else { return };
    podman_is(bin.path(), "#!/bin/sh\necho 'Error: no cgroups' >&2\nexit 125\n");
    fails(
        &machine,
        &expect![[r#"
        error: no Docker engine answers, and Podman cannot be used in its place: 'podman system service' failed: Error: no cgroups
    "#]],
    );
}

#[test]
fn without_an_engine_it_is_said_how_to_get_one() {
    let Some(machine) = Machine::new(None) else { return };
    fails(
        &machine,
        &expect![[r#"
        error: cannot connect to the engine at unix:///var/run/docker.sock: No such file or directory (os error 2). Neither Docker nor Podman is installed: run 'apt-get install docker.io' or 'apt-get install podman', or point DOCKER_HOST or the Docker context at a running engine
    "#]],
    );
    // An engine that was chosen is not replaced.
    let mut chosen = machine.command(&["build"]);
    chosen.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let output = machine.workspace.run(&mut chosen).finish().exits_with(1);
    expect![[r#"
        error: cannot connect to the engine at unix:///nowhere/docker.sock: No such file or directory (os error 2). Start Docker, or point DOCKER_HOST or the Docker context at a running engine
    "#]].assert_eq(output.error());
}
