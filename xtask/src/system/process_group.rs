//! Programs that end with all that they started: hooks, and the command that runs after a build.
//!
//! Each leads a process group of its own. Where this process has a terminal, it also leads a
//! session: it has no terminal then, and a program that asks for a password fails and says so. In a
//! process group alone, the system would stop it, and nobody could answer it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::system::state;

/// The time between SIGTERM and SIGKILL.
const GRACE_PERIOD: Duration = Duration::from_secs(3);
/// How often to look whether processes have ended.
const POLL: Duration = Duration::from_millis(20);
/// The program that starts another one as the leader of a session.
const SETSID: &str = "setsid";

/// A running program, which is killed with all that it started when this is dropped before its
/// end.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    child: Child,
    id: Option<Pid>,
    has_ended: bool,
}

/// A running program's group.
#[derive(Debug)]
struct Group {
    id: Pid,
    /// When its leader started, in the system's ticks.
    started: u64,
    /// The root of the workspace whose next command ends it, if this one is killed.
    root: Option<PathBuf>,
}

static GROUPS: Mutex<Vec<Group>> = Mutex::new(Vec::new());

/// Kills all running programs, before the process exits.
pub(crate) fn kill_all() {
    for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = kill_process_group(group.id, Signal::KILL);
    }
}

/// The record of the programs that run for a workspace: this system, and each group with the start
/// of its leader.
type Record = (String, Vec<(i32, u64)>);

fn record(root: &Path) -> PathBuf {
    root.join(state::DIR).join("processes")
}

/// Writes the record of a workspace. Without it, what a killed command leaves running goes on.
fn save(root: &Path, groups: &[Group]) {
    let of_root = groups.iter().filter(|group| group.root.as_deref() == Some(root));
    let running: Vec<(i32, u64)> =
        of_root.map(|group| (group.id.as_raw_nonzero().get(), group.started)).collect();
    let file = record(root);
    if running.is_empty() {
        drop(fs::remove_file(file));
    } else {
        drop(state::write::<Record>(&file, &(system(), running)));
    }
}

/// Ends the programs that a killed command left running in a workspace: they would go on writing.
/// Returns how many there were.
pub(crate) fn end_left(root: &Path) -> usize {
    let Some((system, left)) = state::read::<Record>(&record(root)) else { return 0 };
    let is_here = system == self::system();
    let groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_left = |(id, started): &(i32, u64)| {
        let id = Pid::from_raw(*id)?;
        let is_own = groups.iter().any(|group| group.id == id);
        let leader = Stat::of(id);
        // Another process can have the number of one that has ended, but not of one whose group
        // has members.
        let is_another = leader.is_some_and(|leader| leader.started != *started);
        (is_here && !is_own && !is_another && !members(id).is_empty()).then_some(id)
    };
    let left: Vec<Pid> = left.iter().filter_map(is_left).collect();
    for group in &left {
        let _ = kill_process_group(*group, Signal::KILL);
        let started = Instant::now();
        while !members(*group).is_empty() && started.elapsed() < GRACE_PERIOD {
            thread::sleep(POLL);
        }
    }
    save(root, &groups);
    left.len()
}

/// Identifies the running system, and the numbers by which this process knows others.
fn system() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let numbers = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), numbers.display())
}

impl ProcessGroup {
    /// Starts a program in a folder with this environment, and its output in pipes. A hook is ended
    /// by the next command in that folder, if this process is killed.
    pub(crate) fn start<'a>(
        words: impl IntoIterator<Item = &'a OsStr>,
        folder: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        is_hook: bool,
    ) -> io::Result<Self> {
        let words: Vec<&OsStr> = words.into_iter().collect();
        let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let path = variables.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
        let mut command = match path.filter(|_| has_terminal()) {
            Some(path) if find(SETSID.as_ref(), path, folder).is_ok() => {
                // It would start nothing and say so in words of its own.
                find(program, path, folder)?;
                let mut command = Command::new(SETSID);
                command.arg(program);
                command
            }
            _ => {
                let mut command = Command::new(program);
                command.process_group(0);
                command
            }
        };
        let child = command
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let started = Stat::of(id).map_or(0, |stat| stat.started);
            let root = is_hook.then(|| folder.to_owned());
            let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
            groups.push(Group { id, started, root });
            if is_hook {
                save(folder, &groups);
            }
        }
        Ok(Self { child, id, has_ended: false })
    }

    pub(crate) fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits until the program ends. What it started may go on.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.has_ended = true;
        status
    }

    /// Terminates the program and all that it started, and kills what is left after the grace
    /// period.
    pub(crate) async fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE_PERIOD, self.until_empty()).await.is_err() {
            self.signal(Signal::KILL);
            drop(tokio::time::timeout(GRACE_PERIOD, self.until_empty()).await);
        }
        self.wait().await
    }

    async fn until_empty(&mut self) {
        drop(self.child.wait().await);
        while self.id.is_some_and(|group| !members(group).is_empty()) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// It fails only if the group has ended.
    fn signal(&self, signal: Signal) {
        let _ = self.id.map(|group| kill_process_group(group, signal));
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.has_ended {
            self.signal(Signal::KILL);
        }
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        let own = groups.iter().position(|group| Some(group.id) == self.id);
        let root = own.and_then(|own| groups.swap_remove(own).root);
        if let Some(root) = root {
            save(&root, &groups);
        }
    }
}

fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// The file of a program, which is looked for as `execvp` does.
fn find(program: &OsStr, path: &OsStr, folder: &Path) -> io::Result<PathBuf> {
    let is_path = Path::new(program).components().count() > 1;
    let folders: Vec<PathBuf> =
        if is_path { vec![folder.to_owned()] } else { std::env::split_paths(path).collect() };
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for file in folders.into_iter().map(|it| folder.join(it).join(program)) {
        match fs::metadata(&file) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {
                return Ok(file);
            }
            Ok(_) => failed = io::ErrorKind::PermissionDenied.into(),
            Err(_) => {}
        }
    }
    Err(failed)
}

/// The processes of a group that have not ended: fields of `stat` in proc(5).
fn members(group: Pid) -> Vec<Stat> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|process| Stat::read(&process.path().join("stat")));
    // One that has ended is there until its parent looks at it.
    stats.filter(|stat| stat.group == group.as_raw_nonzero().get() && stat.state != "Z").collect()
}

struct Stat {
    state: String,
    group: i32,
    /// When it started, in the system's ticks.
    started: u64,
}

impl Stat {
    fn of(process: Pid) -> Option<Self> {
        Self::read(Path::new(&format!("/proc/{}/stat", process.as_raw_nonzero())))
    }

    fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        // A program's name can contain anything.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        Some(Self {
            state: (*fields.first()?).to_owned(),
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}
