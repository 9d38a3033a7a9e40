//! A build's progress, from the engine's answers to events: each instruction once, output
//! by line.

use std::collections::{BTreeMap, HashSet};

use bollard::moby::buildkit::v1::StatusResponse;

use super::EngineError;
use crate::event::{Event, Events, InstructionState, Stream};
use crate::system::lines::{Line, Lines, shorten};

/// More of a line than this helps nobody.
const LONGEST: usize = 64 << 10;

/// What was told so far of one image.
pub(crate) struct BuildProgress<'a> {
    component: &'a str,
    image: &'a str,
    events: &'a Events,
    seen: HashSet<(String, bool)>,
    /// The instruction that failed, or, of the classic builder, the last one.
    last: Option<String>,
    /// The instructions that run, by digest: an engine may give up before it says
    /// which one failed.
    running: BTreeMap<String, String>,
    pending: BTreeMap<(String, i64), Lines>,
}

impl<'a> BuildProgress<'a> {
    pub(crate) fn new(component: &'a str, image: &'a str, events: &'a Events) -> Self {
        let (seen, pending) = (HashSet::new(), BTreeMap::new());
        let running = BTreeMap::new();
        Self { component, image, events, seen, last: None, running, pending }
    }

    pub(crate) fn buildkit(&mut self, status: StatusResponse) {
        for vertex in status.vertexes {
            if !vertex.name.starts_with('[') || vertex.name.starts_with("[internal]") {
                continue;
            }
            // Whether an engine has unpacked a base before is nothing that a build did.
            let is_cached = vertex.cached && !vertex.name.contains("] FROM ");
            let state = match (is_cached, &vertex.started, &vertex.completed) {
                (true, _, _) => InstructionState::Cached,
                (false, Some(_), None) => InstructionState::Started,
                (false, Some(_), Some(_)) => InstructionState::Done,
                (false, None, _) if vertex.cached => InstructionState::Done,
                (false, None, _) => continue,
            };
            if !vertex.error.is_empty() {
                self.last = Some(vertex.name.clone());
            }
            match state {
                InstructionState::Started => {
                    self.running.insert(vertex.digest.clone(), vertex.name.clone());
                }
                _ => drop(self.running.remove(&vertex.digest)),
            }
            // An instruction that was quick is only ever heard of as done.
            let is_over = state == InstructionState::Done;
            let is_new = self.seen.insert((vertex.digest.clone(), false));
            if is_new && is_over {
                self.instruction(vertex.name.clone(), InstructionState::Started);
            }
            if (is_new && !is_over) || (is_over && self.seen.insert((vertex.digest, true))) {
                self.instruction(vertex.name, state);
            }
        }
        for log in status.logs {
            self.output((log.vertex, log.stream), &log.msg);
        }
    }

    /// The classic builder mixes its own words with what instructions write.
    pub(crate) fn classic(&mut self, text: &str) {
        if text.starts_with("Step ") {
            let text = text.trim_end().to_owned();
            self.last = Some(text.clone());
            self.instruction(text, InstructionState::Started);
        } else if !text.starts_with(" ---> ") {
            self.output((String::new(), 1), text.as_bytes());
        }
    }

    /// Names the instruction that an error comes from, if it is known.
    pub(crate) fn blame(&mut self, error: EngineError) -> EngineError {
        let running = self.running.values().next().filter(|_| self.running.len() == 1);
        match (error, self.last.take().or(running.cloned())) {
            (EngineError::Refused(message), Some(text)) => {
                EngineError::Instruction { text, message }
            }
            (error, _) => error,
        }
    }

    fn instruction(&self, text: String, state: InstructionState) {
        let (component, image) = (self.component.to_owned(), self.image.to_owned());
        let text = shorten(text, LONGEST);
        self.events.send(Event::Instruction { component, image, text, state });
    }

    /// A line of the answer was too long to be read.
    pub(crate) fn skipped(&self, bytes: usize) {
        let text = format!("({bytes} bytes that the engine sent in one line are left out)");
        self.line(1, &Line { bytes: text.into_bytes(), more: 0 });
    }

    fn output(&mut self, source: (String, i64), bytes: &[u8]) {
        let stream = source.1;
        let mut lines = self.pending.remove(&source).unwrap_or_else(|| Lines::new(LONGEST));
        lines.push(bytes, |line| self.line(stream, &line));
        self.pending.insert(source, lines);
    }

    /// The image is made: so is every instruction, though engines do not tell of each.
    pub(crate) fn end(&mut self) {
        self.flush();
        for (digest, name) in std::mem::take(&mut self.running) {
            // One may begin once more after it was done.
            if self.seen.insert((digest, true)) {
                self.instruction(name, InstructionState::Done);
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

    /// Waits until what was sent is heard.
    pub(crate) async fn room(&self) {
        self.events.room().await;
    }

    fn line(&self, stream: i64, line: &Line) {
        self.events.send(Event::Log {
            component: self.component.to_owned(),
            image: Some(self.image.to_owned()),
            stream: if stream == 2 { Stream::Err } else { Stream::Out },
            line: line.text(),
        });
    }
}
