//! The log file of each component, `target/xtask/logs/NAME.log`: the output of its hooks and
//! instructions from the last round in which there was any.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use console::strip_ansi_codes;
use xtask_core::{escape, regular_file};

use crate::event::Event;
use crate::system::state;

/// How many lines of the log a failure shows.
const MAX_LAST_LINES: usize = 20;

/// The logs of a round. Write errors are ignored.
pub(crate) struct Logs {
    dir: PathBuf,
    open: HashMap<String, Log>,
}

#[derive(Default)]
struct Log {
    file: Option<BufWriter<File>>,
    last: VecDeque<String>,
}

impl Logs {
    pub(crate) fn new(root: &Path) -> Self {
        Self { dir: root.join(state::DIR).join("logs"), open: HashMap::new() }
    }

    pub(crate) fn record(&mut self, event: &Event) {
        match event {
            Event::Instruction { component, text, .. } => self.line(component, text, false),
            Event::Log { component, line, .. } => self.line(component, line, true),
            // The file of an earlier round is kept until there is something to write.
            Event::StepStarted { component } => drop(self.open.remove(component)),
            Event::StepFinished { component, .. } => {
                if let Some(file) = self.open.get_mut(component).and_then(|log| log.file.as_mut()) {
                    drop(file.flush());
                }
            }
            _ => {}
        }
    }

    /// The last lines of a component's output.
    pub(crate) fn last_lines(&self, component: &str) -> Vec<String> {
        let log = self.open.get(component);
        log.map(|log| log.last.iter().cloned().collect()).unwrap_or_default()
    }

    /// The path of a component's log file, relative to the workspace root.
    pub(crate) fn path(component: &str) -> String {
        format!("{}/logs/{}", state::DIR, file_name(component))
    }

    fn line(&mut self, component: &str, line: &str, is_output: bool) {
        let dir = &self.dir;
        let log = self.open.entry(component.to_owned()).or_insert_with(|| {
            let path = dir.join(file_name(component));
            let file = fs::create_dir_all(dir).and_then(|()| regular_file::create(&path));
            Log { file: file.ok().map(BufWriter::new), last: VecDeque::new() }
        });
        let plain = strip_ansi_codes(line);
        if let Some(file) = &mut log.file {
            drop(writeln!(file, "{plain}"));
        }
        if is_output {
            if log.last.len() == MAX_LAST_LINES {
                log.last.pop_front();
            }
            log.last.push_back(plain.into_owned());
        }
    }
}

/// The component's name without control characters and path separators.
fn file_name(component: &str) -> String {
    format!("{}.log", escape::line(component).replace('/', "%"))
}
