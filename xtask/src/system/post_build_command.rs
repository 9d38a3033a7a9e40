//! The command that `watch` runs after a round. It can be a server, which runs until the next
//! round. What it writes is shown like everything else, as it would be overwritten by what is
//! updated in place on a terminal.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, BufReader};
use tokio::task::JoinSet;

use crate::event::{Event, Stream};
use crate::event_channel::Events;
use crate::system::output_lines::next_line;
use crate::system::process_group::ProcessGroup;

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
    program: ProcessGroup,
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
        let names = [("XTASK_COMPONENTS", &built.components), ("XTASK_IMAGES", &built.images)];
        let names = names.map(|(name, value)| (name.into(), value.join(" ").into()));
        let words = ["/bin/sh", "-c", command].map(OsStr::new);
        let mut program = ProcessGroup::start(words, root, env::vars_os().chain(names), false)?;
        let (stdout, stderr) = program.take_output();
        let mut readers = JoinSet::new();
        readers.spawn(forward(stdout, Stream::Stdout, events.clone()));
        readers.spawn(forward(stderr, Stream::Stderr, events.clone()));
        self.0 = Some(Running { program, readers });
        Ok(())
    }

    /// Stops the command and its children.
    pub(crate) async fn stop(&mut self) {
        let Some(Running { mut program, mut readers }) = self.0.take() else { return };
        drop(program.stop().await);
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
