//! Turns an engine's progress messages into events: each instruction once, output line by line.

use std::collections::{BTreeMap, HashSet};

use bollard::moby::buildkit::v1::StatusResponse;

use crate::engine::error::EngineError;
use crate::event::{Event, InstructionStatus, Stream};
use crate::event_channel::Events;
use crate::system::lines::{Line, Lines, shorten};

const MAX_LINE: usize = 64 << 10;

/// The progress of one image.
pub(crate) struct BuildProgress<'a> {
    component: &'a str,
    image: &'a str,
    events: &'a Events,
    /// The instructions that were reported, by digest and whether as done.
    reported: HashSet<(String, bool)>,
    /// The instruction that failed; with the classic builder, which reports none, the last one.
    failed: Option<String>,
    /// The running instructions by digest: a build may end before the engine reports which one
    /// failed.
    running: BTreeMap<String, String>,
    /// Incomplete lines, by instruction and stream.
    pending: BTreeMap<(String, i64), Lines>,
}

impl<'a> BuildProgress<'a> {
    pub(crate) fn new(component: &'a str, image: &'a str, events: &'a Events) -> Self {
        let (reported, pending) = (HashSet::new(), BTreeMap::new());
        let running = BTreeMap::new();
        Self { component, image, events, reported, failed: None, running, pending }
    }

    pub(crate) fn buildkit(&mut self, status: StatusResponse) {
        for vertex in status.vertexes {
            if !vertex.name.starts_with('[') || vertex.name.starts_with("[internal]") {
                continue;
            }
            // A base that the engine has unpacked before is not a cached instruction.
            let is_cached = vertex.cached && !vertex.name.contains("] FROM ");
            let state = match (is_cached, &vertex.started, &vertex.completed) {
                (true, _, _) => InstructionStatus::Cached,
                (false, Some(_), None) => InstructionStatus::Started,
                (false, Some(_), Some(_)) => InstructionStatus::Done,
                (false, None, _) if vertex.cached => InstructionStatus::Done,
                (false, None, _) => continue,
            };
            if !vertex.error.is_empty() {
                self.failed = Some(vertex.name.clone());
            }
            match state {
                InstructionStatus::Started => {
                    self.running.insert(vertex.digest.clone(), vertex.name.clone());
                }
                _ => drop(self.running.remove(&vertex.digest)),
            }
            // A fast instruction is only reported as completed.
            let is_done = state == InstructionStatus::Done;
            let is_new = self.reported.insert((vertex.digest.clone(), false));
            if is_new && is_done {
                self.instruction(vertex.name.clone(), InstructionStatus::Started);
            }
            if (is_new && !is_done) || (is_done && self.reported.insert((vertex.digest, true))) {
                self.instruction(vertex.name, state);
            }
        }
        for log in status.logs {
            self.output((log.vertex, log.stream), &log.msg);
        }
    }

    /// The classic builder mixes its own messages with the output of instructions.
    pub(crate) fn classic(&mut self, text: &str) {
        if text.starts_with("Step ") {
            let text = text.trim_end().to_owned();
            self.failed = Some(text.clone());
            self.instruction(text, InstructionStatus::Started);
        } else if !text.starts_with(" ---> ") {
            self.output((String::new(), 1), text.as_bytes());
        }
    }

    /// Adds the instruction that failed to an error, if it is known.
    pub(crate) fn with_instruction(&mut self, error: EngineError) -> EngineError {
        let running = self.running.values().next().filter(|_| self.running.len() == 1);
        match (error, self.failed.take().or(running.cloned())) {
            (EngineError::Refused(message), Some(text)) => {
                EngineError::Instruction { text, message }
            }
            (error, _) => error,
        }
    }

    fn instruction(&self, text: String, status: InstructionStatus) {
        let (component, image) = (self.component.to_owned(), self.image.to_owned());
        let text = shorten(text, MAX_LINE);
        self.events.send(Event::Instruction { component, image, text, status });
    }

    /// Reports a line of the response that was too long to be read.
    pub(crate) fn oversized_line(&self, bytes: usize) {
        let text = format!("(a line of {bytes} bytes from the engine is omitted)");
        self.line(1, &Line { bytes: text.into_bytes(), omitted: 0 });
    }

    fn output(&mut self, source: (String, i64), bytes: &[u8]) {
        let stream = source.1;
        let mut lines = self.pending.remove(&source).unwrap_or_else(|| Lines::new(MAX_LINE));
        lines.push(bytes, |line| self.line(stream, &line));
        self.pending.insert(source, lines);
    }

    /// The image is built: engines do not report the end of every instruction.
    pub(crate) fn finish(&mut self) {
        self.flush();
        for (digest, name) in std::mem::take(&mut self.running) {
            // An instruction may start again after it was done.
            if self.reported.insert((digest, true)) {
                self.instruction(name, InstructionStatus::Done);
            }
        }
    }

    pub(crate) fn flush(&mut self) {
        for ((_, stream), mut lines) in std::mem::take(&mut self.pending) {
            if let Some(line) = lines.end() {
                self.line(stream, &line);
            }
        }
    }

    /// Waits while too many log lines are unread.
    pub(crate) async fn wait_for_readers(&self) {
        self.events.wait_for_reader().await;
    }

    fn line(&self, stream: i64, line: &Line) {
        self.events.send(Event::Log {
            component: self.component.to_owned(),
            image: Some(self.image.to_owned()),
            stream: if stream == 2 { Stream::Stderr } else { Stream::Stdout },
            line: line.text(),
        });
    }
}
