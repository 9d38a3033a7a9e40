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
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

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

/// The groups of running programs.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills all running programs, before the process exits.
pub(crate) fn kill_all() {
    for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

impl ProcessGroup {
    /// Starts a program in a folder with this environment, and its output in pipes.
    pub(crate) fn start<'a>(
        words: impl IntoIterator<Item = &'a OsStr>,
        folder: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
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
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).extend(id);
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
        while self.id.is_some_and(|group| test_kill_process_group(group).is_ok()) {
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
        groups.retain(|group| Some(*group) != self.id);
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
