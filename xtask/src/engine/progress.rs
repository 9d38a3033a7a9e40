//! Turns an engine's progress messages into events: each instruction once, output line by line.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bollard::moby::buildkit::v1::StatusResponse;
use xtask_core::image_reference;

use crate::engine::error::EngineError;
use crate::engine::wording;
use crate::event::{Event, InstructionStatus, Stream};
use crate::event_channel::Events;
use crate::system::lines::{Line, Lines, shorten};

const MAX_LINE: usize = 64 << 10;

/// How messages of the classic builder and of Podman begin that are not output.
const CLASSIC_OWN: [&str; 4] = [" ---> ", "--> ", "Removing intermediate container ", "COMMIT "];

/// The classic builder sends one stream, with the error stream in red.
const CLASSIC_ERROR: &str = "\u{1b}[91m";

/// The progress of one image.
pub(crate) struct BuildProgress<'a> {
    component: &'a str,
    image: &'a str,
    events: &'a Events,
    /// The instructions that were reported, by digest and whether as done.
    reported: HashSet<(String, bool)>,
    /// The instructions that failed, with their errors: those that were cancelled because of
    /// another one count too.
    failed: Vec<(String, String)>,
    /// The last instruction of the classic builder, which reports no failed one.
    last: Option<String>,
    /// Whether the last message was the builder's own.
    is_own: bool,
    /// The running instructions by digest: a build may end before the engine reports which one
    /// failed.
    running: BTreeMap<String, String>,
    /// Incomplete lines, by instruction and stream.
    pending: BTreeMap<(String, i64), Lines>,
    /// The bases by their shortest names, with the digests that BuildKit took them by.
    bases: BTreeSet<(String, String)>,
}

/// Whether a line announces an instruction: `Step 2/3 : RUN x`, or Podman's
/// `[1/2] STEP 2/3: RUN x`.
fn is_step(line: &str) -> bool {
    let rest = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let rest = rest.map_or(line, |(_, rest)| rest);
    rest.starts_with("Step ") || rest.starts_with("STEP ")
}

/// Whether a vertex of BuildKit is an instruction: `[stage 2/3] RUN x`, and not `[internal] load
/// .dockerignore`, `[linux/arm64 internal] load metadata for x` or `[context x] load from client`.
fn is_instruction(name: &str) -> bool {
    let place = name.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    place.is_some_and(|(place, _)| !place.ends_with("internal") && !place.starts_with("context "))
}

/// The base that a vertex takes, by its shortest name, and its digest: those of
/// `[stage 1/3] FROM docker.io/library/a:latest@sha256:…`. Not all engines have the digest there.
fn base_in(vertex: &str) -> Option<(String, String)> {
    let (_, instruction) = vertex.strip_prefix('[')?.split_once("] ")?;
    let (reference, digest) = instruction.strip_prefix("FROM ")?.rsplit_once('@')?;
    Some((image_reference::familiar(reference).to_owned(), digest.to_owned()))
}

/// Whether a line is what a builder of Podman's says in the end: the image's ID, and its names. An
/// instruction may write the same words of something else.
fn is_result(line: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let line = line.trim_end();
    let built =
        line.strip_prefix("Successfully built ").is_some_and(|id| id.len() == 12 && is_hex(id));
    built || line.starts_with("Successfully tagged ") || line.len() == 64 && is_hex(line)
}

impl<'a> BuildProgress<'a> {
    pub(crate) fn new(component: &'a str, image: &'a str, events: &'a Events) -> Self {
        let (reported, pending) = (HashSet::new(), BTreeMap::new());
        let running = BTreeMap::new();
        Self {
            component,
            image,
            events,
            reported,
            failed: Vec::new(),
            last: None,
            is_own: false,
            running,
            pending,
            bases: BTreeSet::new(),
        }
    }

    /// The bases that BuildKit told, with their digests.
    pub(crate) fn take_bases(&mut self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut self.bases)
    }

    pub(crate) fn buildkit(&mut self, status: StatusResponse) {
        let mut done = Vec::new();
        for vertex in status.vertexes {
            if !is_instruction(&vertex.name) {
                continue;
            }
            self.bases.extend(base_in(&vertex.name));
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
                self.failed.push((vertex.name.clone(), vertex.error.clone()));
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
            if is_new && !is_done {
                self.instruction(vertex.name, state);
            } else if is_done && self.reported.insert((vertex.digest, true)) {
                done.push(vertex.name);
            }
        }
        for log in status.logs {
            self.output((log.vertex, log.stream), &log.msg);
        }
        // What they wrote last can come with their end.
        for name in done {
            self.instruction(name, InstructionStatus::Done);
        }
    }

    /// The classic builder mixes its own messages with the output of instructions.
    pub(crate) fn classic(&mut self, text: &str) {
        if is_step(text) {
            let text = text.trim_end().to_owned();
            self.last = Some(text.clone());
            self.instruction(text, InstructionStatus::Started);
            self.is_own = true;
        } else if CLASSIC_OWN.iter().any(|own| text.starts_with(own)) || is_result(text) {
            self.is_own = true;
        } else if !std::mem::take(&mut self.is_own) || text != "\n" {
            let stream = if text.starts_with(CLASSIC_ERROR) { 2 } else { 1 };
            self.output((String::new(), stream), text.as_bytes());
        }
    }

    /// Adds the instruction that failed to an error, if it is known.
    pub(crate) fn with_instruction(&mut self, error: EngineError) -> EngineError {
        let EngineError::Refused(message) = error else { return error };
        let is_cause = |(_, cause): &&(String, String)| message.contains(cause.as_str());
        let failed = self.failed.iter().find(is_cause).or(match &self.failed[..] {
            [only] => Some(only),
            _ => None,
        });
        let running = self.running.values().next().filter(|_| self.running.len() == 1);
        let named = failed.map(|(name, _)| name).or(self.last.as_ref()).or(running);
        let named = named.cloned();
        let message = wording::of_today(&message).into_owned();
        match named {
            Some(text) => EngineError::Instruction { text, message },
            None => EngineError::Refused(message),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_told_with_its_digest_by_some_engines() {
        let name = |text: &str| base_in(text).map(|(name, digest)| format!("{name} {digest}"));
        let from = "[linux/amd64 one 1/3] FROM docker.io/library/a:latest@sha256:12";
        assert_eq!(name(from).as_deref(), Some("a sha256:12"));
        assert_eq!(name("[1/2] FROM docker.io/library/a"), None);
        assert_eq!(name("[2/2] RUN echo FROM a@sha256:12"), None);
        assert_eq!(name("[2/2] RUN echo '[x] FROM a@sha256:12'"), None);
    }

    #[test]
    fn what_podman_says_in_the_end_is_told_from_what_instructions_write() {
        let id = "bbfaa053c12cb9481a994f2ed120d1588ea55c5c6839621c8d6a924861929f1f";
        for own in
            [id, "Successfully built bbfaa053c12c", "Successfully tagged localhost/web:latest"]
        {
            assert!(is_result(&format!("{own}\n")), "{own}");
        }
        // As pip says it.
        for other in ["Successfully built numpy", "Successfully installed x", "bbfaa053", ""] {
            assert!(!is_result(&format!("{other}\n")), "{other}");
        }
    }

    #[test]
    fn instructions_of_buildkit_are_told_from_what_it_does_itself() {
        for instruction in
            ["[1/2] FROM x", "[base 2/3] RUN internal]", "[linux/arm64 1/1] COPY a /"]
        {
            assert!(is_instruction(instruction), "{instruction}");
        }
        for own in [
            "[internal] load .dockerignore",
            "[linux/arm64 internal] load metadata for x",
            "[context lib] load from client",
            "exporting to image",
        ] {
            assert!(!is_instruction(own), "{own}");
        }
    }
}
