//! A component's own scripts, run around its build.
//!
//! A hook's working directory is the workspace root and its `$0` is relative to
//! it. It is run by its `#!` line whether or not it is executable, so that no
//! mode in the tree is changed; a text without one is run by `/bin/sh`, as a
//! shell would run it. It is the leader of a process group of its own, so that
//! all that it started ends with it when the round is cancelled.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use xtask_core::regular_file;
use xtask_core::workspace::hook_script::{self, HookScriptError};

use crate::event::{Event, Events, Stream};
use crate::system::strace::TRACER;

/// How long a cancelled hook may clean up after itself.
const GRACE: Duration = Duration::from_secs(3);
/// So many bytes of a line are passed on.
const LONGEST: usize = 64 << 10;
/// How long output is awaited from what a finished hook left running.
const DRAIN: Duration = Duration::from_millis(500);

/// Why a hook did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It cannot be read.
    #[error("{hook}: {reason}")]
    Unreadable {
        /// The hook, relative to the root.
        hook: String,
        /// Why not.
        reason: String,
    },
    /// It cannot be run as it is.
    #[error("{hook}{}: {source}", source.line().map(|line| format!(":{line}")).unwrap_or_default())]
    Unfit {
        /// The hook, relative to the root.
        hook: String,
        /// Why not.
        source: HookScriptError,
    },
    /// Nobody knows how it ended.
    #[error("{hook}: cannot be waited for: {source}")]
    Lost {
        /// The hook, relative to the root.
        hook: String,
        /// Why not.
        source: io::Error,
    },
    /// Its interpreter does not start.
    #[error("{hook}:1: '{interpreter}' does not start: {source}")]
    NoInterpreter {
        /// The hook, relative to the root.
        hook: String,
        /// What its `#!` line names.
        interpreter: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended with anything but 0.
    #[error("{hook}: failed with {status}")]
    Failed {
        /// The hook, relative to the root.
        hook: String,
        /// How it ended.
        status: ExitStatus,
    },
}

impl HookError {
    /// The hook, relative to the root.
    pub fn hook(&self) -> &str {
        match self {
            Self::Unreadable { hook, .. }
            | Self::Unfit { hook, .. }
            | Self::Lost { hook, .. }
            | Self::NoInterpreter { hook, .. }
            | Self::Failed { hook, .. } => hook,
        }
    }
}

/// A hook that is to run.
#[derive(Clone, Copy, Debug)]
pub struct Hook<'a> {
    /// The workspace's root.
    pub root: &'a Path,
    /// The hook, relative to the root.
    pub path: &'a str,
    /// The component, for the events.
    pub component: &'a str,
    /// The whole environment.
    pub variables: &'a BTreeMap<OsString, OsString>,
    /// Where its system calls are written down, if they are to be.
    pub trace: Option<&'a Path>,
}

/// Runs a hook to its end; its output becomes events of its component. Dropping
/// the future kills the hook at once: to be gentle, signal `cancelled`.
pub async fn run(
    hook: Hook<'_>,
    events: &Events,
    cancelled: impl Future<Output = ()>,
) -> Result<(), HookError> {
    let Hook { root, path, component, .. } = hook;
    let interpreter = interpreter_of(root, path)?;
    let mut child = start(&hook, &interpreter)?;
    let _known = RunningHooks::new(&child);
    // What is left of the output once the hook has ended is little, and is not held up.
    let (is_over, over) = watch::channel(false);
    let output = forward(child.stdout.take(), Stream::Out, component, events, over.clone());
    let errors = forward(child.stderr.take(), Stream::Err, component, events, over);
    let output = async { tokio::join!(output, errors) };
    tokio::pin!(output, cancelled);
    let mut is_drained = false;
    let ended = loop {
        tokio::select! {
            ended = child.wait() => break ended,
            _ = &mut output, if !is_drained => is_drained = true,
            () = &mut cancelled => break stop(&mut child).await,
        }
    };
    is_over.send_replace(true);
    if !is_drained {
        // What a hook leaves running may hold its output open for ever.
        drop(tokio::time::timeout(DRAIN, output).await);
    }
    let hook = path.to_owned();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(HookError::Failed { hook, status }),
        Err(source) => Err(HookError::Lost { hook, source }),
    }
}

fn interpreter_of(root: &Path, hook: &str) -> Result<Vec<String>, HookError> {
    let path = root.join(hook);
    let script = regular_file::read(&path).map_err(|error| HookError::Unreadable {
        hook: hook.to_owned(),
        reason: regular_file::explain(&path, &error),
    })?;
    hook_script::interpreter(&script)
        .map_err(|source| HookError::Unfit { hook: hook.to_owned(), source })
}

fn start(hook: &Hook<'_>, interpreter: &[String]) -> Result<Child, HookError> {
    let mut command: Vec<&OsStr> = interpreter.iter().map(AsRef::as_ref).collect();
    command.push(hook.path.as_ref());
    if let Some(trace) = hook.trace {
        let tracer = TRACER.iter().map(AsRef::as_ref).chain([trace.as_os_str()]);
        command = tracer.chain(command).collect();
    }
    Command::new(command[0])
        .args(&command[1..])
        .current_dir(hook.root)
        .env_clear()
        .envs(hook.variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| HookError::NoInterpreter {
            hook: hook.path.to_owned(),
            interpreter: interpreter.join(" "),
            source,
        })
}

/// Asks the whole group to end, and ends it if it does not.
async fn stop(child: &mut Child) -> io::Result<ExitStatus> {
    signal_group(child, Signal::TERM);
    if let Ok(ended) = tokio::time::timeout(GRACE, child.wait()).await {
        return ended;
    }
    signal_group(child, Signal::KILL);
    child.wait().await
}

fn signal_group(child: &Child, signal: Signal) {
    if let Some(group) = group_of(child) {
        // It fails only if the group has ended by itself.
        let _ = kill_process_group(group, signal);
    }
}

fn group_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// The process groups of the hooks that run.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A group is known as long as this lives.
struct RunningHooks(Option<Pid>);

impl RunningHooks {
    fn new(child: &Child) -> Self {
        let group = group_of(child);
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).extend(group);
        Self(group)
    }
}

impl Drop for RunningHooks {
    fn drop(&mut self) {
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|group| Some(*group) != self.0);
    }
}

/// Ends all hooks that run, at once: for a process that is about to end.
pub fn kill_all() {
    for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

async fn forward(
    source: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    component: &str,
    events: &Events,
    mut over: watch::Receiver<bool>,
) {
    let Some(source) = source else { return };
    let mut reader = BufReader::new(source);
    while let Ok(Some(line)) = next_line(&mut reader).await {
        tokio::select! {
            () = events.room() => {}
            _ = over.wait_for(|is_over| *is_over) => {}
        }
        events.send(Event::Log { component: component.to_owned(), image: None, stream, line });
    }
}

/// The next line, if there is one. However long it is, no more is kept than is passed on.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let (mut line, mut left_out, mut is_whole) = (Vec::new(), 0, false);
    while !is_whole {
        let read = match reader.fill_buf().await {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read.is_empty() {
            break;
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let more = &read[..end.unwrap_or(read.len())];
        let kept = more.len().min(LONGEST - line.len());
        line.extend_from_slice(&more[..kept]);
        left_out += more.len() - kept;
        is_whole = end.is_some();
        let used = more.len() + usize::from(is_whole);
        reader.consume(used);
    }
    if line.is_empty() && !is_whole {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Some(match left_out {
        0 => text.trim_end().to_owned(),
        // What was cut may end in the middle of a letter.
        _ => format!("{} … ({left_out} more bytes)", text.trim_end_matches('\u{fffd}')),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(output: &[u8]) -> Vec<String> {
        let mut reader = BufReader::with_capacity(1000, output);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader).await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn of_a_long_line_only_the_beginning_is_kept() {
        assert_eq!(lines(b"one\r\n\nthree").await, ["one", "", "three"]);
        let longest = "x".repeat(LONGEST);
        assert_eq!(lines(format!("{longest}\nend\n").as_bytes()).await, [&longest, "end"]);
        let cut = "x".repeat(LONGEST - 1);
        let found = lines(format!("{cut}\u{e4}bcd\nend\n").as_bytes()).await;
        assert_eq!(found, [format!("{cut} … (4 more bytes)"), "end".to_owned()]);
    }
}
