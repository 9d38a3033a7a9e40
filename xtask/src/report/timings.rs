//! `--timings`: when each component of a round waited, ran its hooks, sent its contexts and
//! built, as a self-contained HTML page and in Chrome's trace format (`chrome://tracing`,
//! Perfetto).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use xtask_core::escape;
use xtask_core::paths::{POST_HOOK, PRE_HOOK};

use crate::event::Event;
use crate::outcome::Summary;
use crate::report::text;
use crate::system::state;

const PAGE: &str = include_str!("timings.html");

/// Replaced by the data.
const PLACEHOLDER: &str = "/*DATA*/null";

/// The timings of a round, recorded from its events.
pub(crate) struct Timings {
    started: Instant,
    steps: BTreeMap<String, TimedStep>,
}

#[derive(Default)]
struct TimedStep {
    start: f64,
    end: f64,
    outcome: String,
    spans: Vec<Span>,
    /// The start times of the running parts.
    open: BTreeMap<String, f64>,
}

struct Span {
    kind: &'static str,
    name: String,
    start: f64,
    end: f64,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), steps: BTreeMap::new() }
    }

    /// Records the time of an event. At the end of a round, writes the files and returns the
    /// path of the page.
    pub(crate) fn record(&mut self, event: &Event, root: &Path) -> Option<io::Result<String>> {
        let now = self.started.elapsed().as_secs_f64();
        if let Event::RoundStarted { .. } = event {
            *self = Self::new();
        }
        if let Event::RoundFinished(summary) = event {
            return Some(self.write(root, summary));
        }
        let step = self.steps.entry(event.component()?.to_owned()).or_default();
        match event {
            Event::StepStarted { .. } => *step = TimedStep { start: now, ..TimedStep::default() },
            Event::TaskStarted { task: part, .. } => drop(step.open.insert(part.clone(), now)),
            Event::ContextSent { image, .. } => {
                let start = step.open.insert(image.clone(), now).unwrap_or(now);
                let name = format!("{image}: context");
                step.spans.push(Span { kind: "send", name, start, end: now });
            }
            Event::TaskFinished { task: part, .. } => {
                let start = step.open.remove(part).unwrap_or(now);
                let is_hook = [PRE_HOOK, POST_HOOK].contains(&part.as_str());
                let kind = if is_hook { "hook" } else { "build" };
                step.spans.push(Span { kind, name: part.clone(), start, end: now });
            }
            Event::StepFinished { outcome, .. } => {
                step.end = now;
                step.outcome = text::state(outcome).0;
            }
            _ => {}
        }
        None
    }

    fn write(&self, root: &Path, summary: &Summary) -> io::Result<String> {
        let dir = root.join(state::DIR);
        fs::create_dir_all(&dir)?;
        // In a script, `</script>` and `<!--` in a name would be taken for markup.
        let data = self.data(summary).to_string().replace('<', "\\u003c");
        fs::write(dir.join("timings.html"), PAGE.replace(PLACEHOLDER, &data))?;
        fs::write(dir.join("timings.json"), escape::json(&self.trace().to_string()))?;
        Ok(format!("{}/timings.html", state::DIR))
    }

    fn data(&self, summary: &Summary) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(component, step)| {
                let spans: Vec<Value> = step.spans.iter().map(span).collect();
                json!({
                    "component": escape::line(component),
                    "start": step.start,
                    "end": step.end,
                    "waited": step.start,
                    "outcome": step.outcome,
                    "critical": summary.critical_path.contains(component),
                    "spans": spans,
                })
            })
            .collect();
        json!({
            "summary": escape::line(&text::summary(summary)),
            "duration": summary.duration.as_secs_f64(),
            "steps": steps,
        })
    }

    /// "Complete events" of Chrome's trace event format, with one thread per component.
    fn trace(&self) -> Value {
        let mut events = Vec::new();
        for (thread, (component, step)) in self.steps.iter().enumerate() {
            events.push(json!({
                "ph": "M", "name": "thread_name", "pid": 1, "tid": thread,
                "args": { "name": component },
            }));
            for span in &step.spans {
                events.push(json!({
                    "ph": "X", "name": span.name, "cat": span.kind, "pid": 1, "tid": thread,
                    "ts": span.start * 1e6, "dur": (span.end - span.start) * 1e6,
                }));
            }
        }
        json!({ "traceEvents": events })
    }
}

fn span(span: &Span) -> Value {
    let name = escape::line(&span.name);
    json!({ "kind": span.kind, "name": name, "start": span.start, "end": span.end })
}
