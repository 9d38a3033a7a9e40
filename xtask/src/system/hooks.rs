//! Runs a component's hooks.
//!
//! A hook's working directory is the workspace root, and its `$0` is relative to it. A script is run
//! with the interpreter of its `#!` line even if it is not executable, so that no mode in the tree
//! needs to change; a text without one is run with `/bin/sh`, as a shell does. It leads a process
//! group of its own, so that its children end with it when the round is cancelled.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use xtask_core::regular_file;
use xtask_core::workspace::hook::Hook;
use xtask_core::workspace::hook_script::{self, HookScriptError};

use crate::event::{Event, Stream};
use crate::event_channel::Events;
use crate::system::output_lines::next_line;
use crate::system::strace::TRACER;

/// The time between SIGTERM and SIGKILL for a cancelled hook.
const GRACE_PERIOD: Duration = Duration::from_secs(3);
/// How long to read the output of processes that a finished hook left running.
const DRAIN: Duration = Duration::from_millis(500);

/// Why a hook did not succeed. `hook` is its path relative to the root, or its command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("{hook}: {reason}")]
    Unreadable { hook: String, reason: String },
    #[error("{hook}{}: {source}", source.line().map(|line| format!(":{line}")).unwrap_or_default())]
    InvalidScript { hook: String, source: HookScriptError },
    #[error("{hook}:1: cannot start the interpreter '{interpreter}': {source}")]
    Interpreter {
        hook: String,
        /// The command of the `#!` line.
        interpreter: String,
        source: io::Error,
    },
    #[error("{hook}: cannot be started: {source}")]
    Command { hook: String, source: io::Error },
    #[error("{hook}: cannot start {} to trace it: {source}", TRACER[0])]
    Tracer { hook: String, source: io::Error },
    #[error("{hook}: cannot wait for it to exit: {source}")]
    Wait { hook: String, source: io::Error },
    #[error("{hook}: failed with {status}")]
    Failed { hook: String, status: ExitStatus },
}

impl HookError {
    /// The hook, relative to the root.
    pub(crate) fn hook(&self) -> &str {
        match self {
            Self::Unreadable { hook, .. }
            | Self::InvalidScript { hook, .. }
            | Self::Interpreter { hook, .. }
            | Self::Command { hook, .. }
            | Self::Tracer { hook, .. }
            | Self::Wait { hook, .. }
            | Self::Failed { hook, .. } => hook,
        }
    }
}

/// A hook to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookRun<'a> {
    pub(crate) root: &'a Path,
    pub(crate) hook: &'a Hook,
    pub(crate) component: &'a str,
    /// The complete environment.
    pub(crate) variables: &'a BTreeMap<OsString, OsString>,
    /// The file to which its system calls are traced, if they are.
    pub(crate) trace: Option<&'a Path>,
}

/// Runs a hook, and sends its output as events of its component. Dropping the future kills the
/// hook at once; `cancelled` stops it with a grace period.
pub(crate) async fn run(
    run: HookRun<'_>,
    events: &Events,
    cancelled: impl Future<Output = ()>,
) -> Result<(), HookError> {
    let HookRun { root, hook, component, .. } = run;
    let mut child = match hook {
        Hook::Script(path) => {
            let interpreter = interpreter_of(root, path)?;
            let command = interpreter.iter().chain([path]);
            start(&run, command.map(AsRef::as_ref)).map_err(|source| {
                let (hook, interpreter) = (path.clone(), interpreter.join(" "));
                HookError::Interpreter { hook, interpreter, source }
            })
        }
        Hook::Command(words) => start(&run, words.iter().map(AsRef::as_ref))
            .map_err(|source| HookError::Command { hook: hook.to_string(), source }),
    }
    .map_err(|error| match error {
        HookError::Interpreter { hook, source, .. } | HookError::Command { hook, source }
            if run.trace.is_some() =>
        {
            HookError::Tracer { hook, source }
        }
        error => error,
    })?;
    let _registration = RunningHook::register(&child);
    // After the exit little output is left, so it no longer waits for readers.
    let (has_exited, exited) = watch::channel(false);
    let output = forward(child.stdout.take(), Stream::Stdout, component, events, exited.clone());
    let errors = forward(child.stderr.take(), Stream::Stderr, component, events, exited);
    let output = async { tokio::join!(output, errors) };
    tokio::pin!(output, cancelled);
    let mut is_drained = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            _ = &mut output, if !is_drained => is_drained = true,
            () = &mut cancelled => break stop(&mut child).await,
        }
    };
    has_exited.send_replace(true);
    if !is_drained {
        // Processes that the hook left running can keep its output open forever.
        drop(tokio::time::timeout(DRAIN, output).await);
    }
    let hook = hook.to_string();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(HookError::Failed { hook, status }),
        Err(source) => Err(HookError::Wait { hook, source }),
    }
}

fn interpreter_of(root: &Path, hook: &str) -> Result<Vec<String>, HookError> {
    let path = root.join(hook);
    let script = regular_file::read(&path).map_err(|error| HookError::Unreadable {
        hook: hook.to_owned(),
        reason: regular_file::explain(&path, &error),
    })?;
    hook_script::interpreter(&script)
        .map_err(|source| HookError::InvalidScript { hook: hook.to_owned(), source })
}

fn start<'c>(run: &HookRun<'c>, command: impl Iterator<Item = &'c OsStr>) -> io::Result<Child> {
    let tracer = run.trace.map(|trace| TRACER.iter().map(AsRef::as_ref).chain([trace.as_os_str()]));
    let mut words = tracer.into_iter().flatten().chain(command);
    Command::new(words.next().unwrap_or_default())
        .args(words)
        .current_dir(run.root)
        .env_clear()
        .envs(run.variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Terminates the process group, and kills it after the grace period.
async fn stop(child: &mut Child) -> io::Result<ExitStatus> {
    signal_group(child, Signal::TERM);
    if let Ok(status) = tokio::time::timeout(GRACE_PERIOD, child.wait()).await {
        return status;
    }
    signal_group(child, Signal::KILL);
    child.wait().await
}

fn signal_group(child: &Child, signal: Signal) {
    if let Some(group) = group_of(child) {
        // It fails only if the group has exited.
        let _ = kill_process_group(group, signal);
    }
}

fn group_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// The process groups of running hooks.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// An entry in [`GROUPS`], which is removed when this is dropped.
struct RunningHook(Option<Pid>);

impl RunningHook {
    fn register(child: &Child) -> Self {
        let group = group_of(child);
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).extend(group);
        Self(group)
    }
}

impl Drop for RunningHook {
    fn drop(&mut self) {
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|group| Some(*group) != self.0);
    }
}

/// Kills all running hooks, before the process exits.
pub(crate) fn kill_all() {
    for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

async fn forward(
    source: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    component: &str,
    events: &Events,
    mut exited: watch::Receiver<bool>,
) {
    let Some(source) = source else { return };
    let mut reader = BufReader::new(source);
    while let Ok(Some(line)) = next_line(&mut reader).await {
        tokio::select! {
            () = events.wait_for_reader() => {}
            _ = exited.wait_for(|has_exited| *has_exited) => {}
        }
        events.send(Event::Log { component: component.to_owned(), image: None, stream, line });
    }
}
