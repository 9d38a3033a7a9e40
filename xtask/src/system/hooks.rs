//! Runs a component's hooks.
//!
//! A hook's working directory is the workspace root, and its `$0` is relative to it. A script is run
//! with the interpreter of its `#!` line even if it is not executable, so that no mode in the tree
//! needs to change; a text without one is run with `/bin/sh`, as a shell does. Its children end
//! with it when the round is cancelled.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, BufReader};
use tokio::sync::watch;
use xtask_core::regular_file;
use xtask_core::workspace::hook::Hook;
use xtask_core::workspace::hook_script::{self, HookScriptError};

use crate::event::{Event, Stream};
use crate::event_channel::Events;
use crate::system::output_lines::next_line;
use crate::system::process_group::ProcessGroup;
use crate::system::strace::TRACER;

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
    // After the exit little output is left, so it no longer waits for readers.
    let (has_exited, exited) = watch::channel(false);
    let (stdout, stderr) = child.take_output();
    let output = forward(stdout, Stream::Stdout, component, events, exited.clone());
    let errors = forward(stderr, Stream::Stderr, component, events, exited);
    let output = async { tokio::join!(output, errors) };
    tokio::pin!(output, cancelled);
    let mut is_drained = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            _ = &mut output, if !is_drained => is_drained = true,
            () = &mut cancelled => break child.stop().await,
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

fn start<'c>(
    run: &HookRun<'c>,
    command: impl Iterator<Item = &'c OsStr>,
) -> io::Result<ProcessGroup> {
    let tracer = run.trace.map(|trace| TRACER.iter().map(AsRef::as_ref).chain([trace.as_os_str()]));
    let words = tracer.into_iter().flatten().chain(command);
    let variables = run.variables.iter().map(|(name, value)| (name.clone(), value.clone()));
    ProcessGroup::start(words, run.root, variables, true)
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
