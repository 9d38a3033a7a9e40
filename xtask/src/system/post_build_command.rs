//! The command that `watch` runs after a round. It can be a server, which runs until the next
//! round. What it writes is shown like everything else, as it would be overwritten by what is
//! updated in place on a terminal.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::event::{Event, Stream};
use crate::event_channel::Events;
use crate::system::output_lines::next_line;

/// The time between SIGTERM and SIGKILL.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// The names of the components that a round built, and of their images.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) components: Vec<String>,
    pub(crate) images: Vec<String>,
}

/// How long to read the output of processes that a stopped command left running.
const DRAIN: Duration = Duration::from_millis(500);

/// The command that was started last, if it was not stopped.
#[derive(Debug, Default)]
pub(crate) struct PostBuildCommand(Option<Running>);

#[derive(Debug)]
struct Running {
    child: Child,
    /// The tasks that read what it writes.
    readers: JoinSet<()>,
}

impl PostBuildCommand {
    /// Starts a command in the workspace's root, with the names in `XTASK_COMPONENTS` and
    /// `XTASK_IMAGES`, separated by spaces.
    pub(crate) fn start(
        &mut self,
        command: &str,
        root: &Path,
        built: &Built,
        events: &Events,
    ) -> io::Result<()> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(root)
            .env("XTASK_COMPONENTS", built.components.join(" "))
            .env("XTASK_IMAGES", built.images.join(" "))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut readers = JoinSet::new();
        readers.spawn(forward(child.stdout.take(), Stream::Stdout, events.clone()));
        readers.spawn(forward(child.stderr.take(), Stream::Stderr, events.clone()));
        self.0 = Some(Running { child, readers });
        Ok(())
    }

    /// Stops the command and its children.
    pub(crate) async fn stop(&mut self) {
        let Some(Running { mut child, mut readers }) = self.0.take() else { return };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // It fails only if the group has exited.
            let _ = kill_process_group(group, Signal::TERM);
            if tokio::time::timeout(GRACE_PERIOD, child.wait()).await.is_err() {
                let _ = kill_process_group(group, Signal::KILL);
                drop(child.wait().await);
            }
        }
        let all_read = async { while readers.join_next().await.is_some() {} };
        drop(tokio::time::timeout(DRAIN, all_read).await);
    }
}

/// Sends what the command writes as events, until it closes its output.
async fn forward(source: Option<impl AsyncRead + Unpin>, stream: Stream, events: Events) {
    let Some(source) = source else { return };
    let mut reader = BufReader::new(source);
    while let Ok(Some(line)) = next_line(&mut reader).await {
        events.wait_for_reader().await;
        events.send(Event::PostBuildOutput { stream, line });
    }
}
