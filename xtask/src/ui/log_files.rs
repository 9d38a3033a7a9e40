//! The log file of each component, `target/xtask/logs/NAME.log`: the output of its hooks and
//! instructions from the last round in which there was any.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{LineWriter, Write};
use std::path::{Path, PathBuf};

use console::strip_ansi_codes;
use xtask_core::regular_file;

use crate::event::{Event, InstructionStatus, Stream};
use crate::system::log_path;

/// How many lines of the log a failure shows.
const MAX_LAST_LINES: usize = 20;

/// The logs of a round. Write errors are ignored.
pub(crate) struct Logs {
    root: PathBuf,
    open: HashMap<String, Log>,
}

#[derive(Default)]
struct Log {
    /// Each line is written at once, for those who follow it.
    file: Option<LineWriter<File>>,
    last: LastLines,
}

/// The last lines of an output. What was written to the error stream is kept, also if much
/// output follows: engines may send it first.
#[derive(Default)]
struct LastLines {
    lines: VecDeque<(usize, String)>,
    errors: VecDeque<(usize, String)>,
    number: usize,
}

impl LastLines {
    fn push(&mut self, line: &str, is_error: bool) {
        let lines = if is_error { &mut self.errors } else { &mut self.lines };
        if lines.len() == MAX_LAST_LINES {
            lines.pop_front();
        }
        self.number += 1;
        lines.push_back((self.number, line.to_owned()));
    }

    /// Half of them at most are kept for the error stream alone.
    fn all(&self) -> Vec<String> {
        let mut all: Vec<&(usize, String)> = self.lines.iter().chain(&self.errors).collect();
        all.sort();
        let is_kept = self.errors.iter().rev().take(MAX_LAST_LINES / 2).map(|(number, _)| *number);
        let kept: BTreeSet<usize> = is_kept.collect();
        let mut room = MAX_LAST_LINES.saturating_sub(kept.len());
        let mut chosen: Vec<&str> = Vec::new();
        for (number, line) in all.into_iter().rev() {
            if kept.contains(number) {
                chosen.push(line);
            } else if room > 0 {
                room -= 1;
                chosen.push(line);
            }
        }
        chosen.into_iter().rev().map(str::to_owned).collect()
    }
}

impl Logs {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: HashMap::new() }
    }

    pub(crate) fn record(&mut self, event: &Event) {
        match event {
            // Its end says nothing new.
            Event::Instruction { status: InstructionStatus::Done, .. } => {}
            Event::Instruction { component, text, .. } => self.line(component, text, None),
            Event::Log { component, line, stream, .. } => self.line(component, line, Some(*stream)),
            // The file of an earlier round is kept until there is something to write.
            Event::StepStarted { component } => drop(self.open.remove(component)),
            _ => {}
        }
    }

    /// The last lines of a component's output.
    pub(crate) fn last_lines(&self, component: &str) -> Vec<String> {
        let log = self.open.get(component);
        log.map(|log| log.last.all()).unwrap_or_default()
    }

    /// The path of a component's log file, relative to the workspace root.
    pub(crate) fn path(component: &str) -> String {
        log_path::of(component)
    }

    fn line(&mut self, component: &str, line: &str, written_to: Option<Stream>) {
        let root = &self.root;
        let log = self.open.entry(component.to_owned()).or_insert_with(|| {
            let created = fs::create_dir_all(root.join(log_path::dir()));
            let path = root.join(log_path::of(component));
            let file = created.and_then(|()| regular_file::create(&path));
            Log { file: file.ok().map(LineWriter::new), last: LastLines::default() }
        });
        let plain = strip_ansi_codes(line);
        if let Some(file) = &mut log.file {
            drop(writeln!(file, "{plain}"));
        }
        if let Some(stream) = written_to {
            log.last.push(&plain, stream == Stream::Stderr);
        }
    }
}
