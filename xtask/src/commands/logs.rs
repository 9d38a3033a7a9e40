//! `logs`: what the hooks and instructions of a component wrote in its last build.
//!
//! With `--follow`, what is appended is printed too, until Ctrl-C. A new build writes the log
//! from its beginning: then it is printed from its beginning.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xtask_core::escape;
use xtask_core::problem::{Problem, Problems};
use xtask_core::regular_file;
use xtask_core::workspace::components::WorkspaceOptions;

use crate::build::prepare::read_workspace;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event::{Event, Output};
use crate::event_channel::Events;
use crate::system::log_path;

/// How often a followed log is read.
const INTERVAL: Duration = Duration::from_millis(100);

/// How many of the last bytes that were printed are compared, to notice that a log was
/// written again.
const COMPARED: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct LogsOptions {
    pub(crate) reading: WorkspaceOptions,
    pub(crate) component: String,
    /// Print what is appended, until the user interrupts it.
    pub(crate) follow: bool,
}

pub(crate) async fn run(options: &LogsOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    let (workspace, _) = read_workspace(&ctx.root, &options.reading, None, &Events::unread())?;
    let id = workspace.find_one(&options.component).map_err(Problems::from)?;
    let name = &workspace.components[id].name;
    let shown = log_path::of(name);
    let mut log = Log::default();
    let path = ctx.root.join(&shown);
    let unreadable = |error: io::Error| {
        CommandError::NoLog(Problem::of_file(&shown, regular_file::explain(&path, &error)))
    };
    let is_missing = !log.print(&path, ctx).map_err(unreadable)?;
    if !options.follow {
        log.print_rest(ctx);
        if is_missing {
            let message = format!("'{name}' has no log: no build of it has written anything");
            return Err(CommandError::NoLog(Problem::of_request(message)));
        }
        return Ok(());
    }
    if is_missing {
        ctx.events.send(Event::WaitingFor { what: format!("a build of {name} to write a log") });
    }
    loop {
        tokio::select! {
            () = ctx.interrupt.wait() => {
                log.print_rest(ctx);
                return Ok(());
            }
            () = tokio::time::sleep(INTERVAL) => {
                if is_closed(&io::stdout()) {
                    return Ok(());
                }
                log.print(&path, ctx).map_err(unreadable)?;
            }
        }
    }
}

/// How much of a log has been printed.
#[derive(Default)]
struct Log {
    read: u64,
    /// The end of what was read.
    last: Vec<u8>,
    /// A line without its end.
    rest: Vec<u8>,
}

impl Log {
    /// Prints all whole lines that have been added; false if there is no log.
    fn print(&mut self, path: &Path, ctx: &CommandContext) -> io::Result<bool> {
        let mut file = match regular_file::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if !self.continues(&mut file)? {
            self.print_rest(ctx);
            *self = Self::default();
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut added = Vec::new();
        file.read_to_end(&mut added)?;
        self.read += added.len() as u64;
        self.last.extend(&added);
        self.last.drain(..self.last.len().saturating_sub(COMPARED));
        self.rest.extend(added);
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = self.rest.drain(..=end).collect();
            send(&lines, ctx);
        }
        Ok(true)
    }

    /// Whether a file still begins with what was read.
    fn continues(&self, file: &mut File) -> io::Result<bool> {
        file.seek(SeekFrom::Start(self.read - self.last.len() as u64))?;
        let mut found = Vec::new();
        file.take(self.last.len() as u64).read_to_end(&mut found)?;
        Ok(found == self.last)
    }

    fn print_rest(&mut self, ctx: &CommandContext) {
        if !self.rest.is_empty() {
            send(&std::mem::take(&mut self.rest), ctx);
        }
    }
}

fn send(lines: &[u8], ctx: &CommandContext) {
    let lines = String::from_utf8_lossy(lines);
    let text = lines.lines().map(|line| escape::log(line, false) + "\n").collect();
    ctx.events.send(Event::Output(Output::Text { text }));
}

/// Whether whoever read a pipe has closed it.
fn is_closed(output: &io::Stdout) -> bool {
    let mut polled = [PollFd::new(output, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default()))
        .is_ok_and(|_| polled[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL))
}
