//! `--timings`: when each component of a round worked and what it waited for, as a
//! self-contained HTML page and in Chrome's trace format (`chrome://tracing`, Perfetto).
//!
//! A step is the list of its spans: reading files, hooks, sending contexts, building. What lies
//! between them is waiting. Until all its dependencies have ended, a step waits for them; from then on, it
//! waits for a free job.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use xtask_core::escape;
use xtask_core::paths::{POST_HOOK, PRE_HOOK};

use crate::event::{Event, PlannedComponent};
use crate::outcome::{Outcome, Summary};
use crate::report::text;
use crate::system::state;

const PAGE: &str = include_str!("timings.html");

/// Replaced by the data.
const PLACEHOLDER: &str = "/*DATA*/null";

/// A shorter gap between two spans is the time that events take, in seconds.
const SHORTEST_WAIT: f64 = 0.001;

/// The timings of a round, recorded from its events.
pub(crate) struct Timings {
    started: Instant,
    jobs: usize,
    steps: BTreeMap<String, TimedStep>,
}

#[derive(Default)]
struct TimedStep {
    dependencies: Vec<String>,
    /// In the order of their ends.
    spans: Vec<Span>,
    /// The start times of the running parts.
    open: BTreeMap<String, f64>,
    /// Since when it works without running a part: it compares files.
    reading: Option<f64>,
    ended: Option<(f64, Outcome)>,
}

#[derive(Debug, PartialEq)]
struct Span {
    kind: &'static str,
    name: String,
    start: f64,
    end: f64,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self::of_round(&[], 0)
    }

    fn of_round(components: &[PlannedComponent], jobs: usize) -> Self {
        let step = |planned: &PlannedComponent| {
            let dependencies = planned.dependencies.clone();
            (planned.component.clone(), TimedStep { dependencies, ..TimedStep::default() })
        };
        Self { started: Instant::now(), jobs, steps: components.iter().map(step).collect() }
    }

    /// Records the time of an event. At the end of a round, writes the files and returns the
    /// path of the page.
    pub(crate) fn record(&mut self, event: &Event, root: &Path) -> Option<io::Result<String>> {
        let now = self.started.elapsed().as_secs_f64();
        if let Event::RoundStarted { components, jobs } = event {
            *self = Self::of_round(components, *jobs);
        }
        if let Event::RoundFinished(summary) = event {
            return Some(self.write(root, summary));
        }
        self.steps.entry(event.component()?.to_owned()).or_default().record(event, now);
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
        let mut steps: Vec<(&String, &TimedStep)> = self.steps.iter().collect();
        steps.sort_by(|(_, one), (_, other)| one.start().total_cmp(&other.start()));
        let steps: Vec<Value> = steps
            .into_iter()
            .map(|(component, step)| {
                let outcome = step.ended.as_ref().map(|(_, outcome)| outcome);
                let text = outcome.map(|outcome| text::state(outcome).0).unwrap_or_default();
                let spans: Vec<Value> = step.spans.iter().map(span).collect();
                let waits: Vec<Value> = step.waits(self.ready(step)).iter().map(span).collect();
                json!({
                    "component": escape::line(component),
                    "start": step.start(),
                    "outcome": escape::line(&text),
                    "failed": matches!(outcome, Some(Outcome::Failed)),
                    "critical": summary.critical_path.contains(component),
                    "waits": waits,
                    "spans": spans,
                })
            })
            .collect();
        json!({
            "summary": escape::line(&text::summary(summary)),
            "duration": summary.duration.as_secs_f64(),
            "jobs": self.jobs,
            "steps": steps,
        })
    }

    /// When the last dependency of a step ended.
    fn ready(&self, step: &TimedStep) -> f64 {
        let steps = step.dependencies.iter().filter_map(|name| self.steps.get(name));
        steps.filter_map(|it| it.ended.as_ref()).map(|(time, _)| *time).fold(0.0, f64::max)
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

impl TimedStep {
    fn record(&mut self, event: &Event, now: f64) {
        match event {
            Event::StepStarted { .. } | Event::StepResumed { .. } => self.reading = Some(now),
            Event::StepPaused { .. } => self.read(now),
            Event::TaskStarted { task: part, .. } => {
                self.read(now);
                self.open.insert(part.clone(), now);
            }
            Event::ContextSent { image, .. } => {
                let start = self.open.insert(image.clone(), now).unwrap_or(now);
                let name = format!("{image}: context");
                self.spans.push(Span { kind: "send", name, start, end: now });
            }
            Event::TaskFinished { task: part, .. } => {
                if let Some(start) = self.open.remove(part) {
                    self.work(part.clone(), start, now);
                }
                if self.open.is_empty() {
                    self.reading = Some(now);
                }
            }
            Event::StepFinished { outcome, .. } => {
                self.read(now);
                for (part, start) in std::mem::take(&mut self.open) {
                    self.work(part, start, now);
                }
                self.ended = Some((now, outcome.clone()));
            }
            _ => {}
        }
    }

    /// Ends the reading of files, if it goes on.
    fn read(&mut self, now: f64) {
        if let Some(start) = self.reading.take().filter(|start| now - start >= SHORTEST_WAIT) {
            let name = "reading files".to_owned();
            self.spans.push(Span { kind: "read", name, start, end: now });
        }
    }

    fn work(&mut self, name: String, start: f64, end: f64) {
        let is_hook = [PRE_HOOK, POST_HOOK].contains(&name.as_str());
        self.spans.push(Span { kind: if is_hook { "hook" } else { "build" }, name, start, end });
    }

    /// When it began to work; for a step without work, when it ended.
    fn start(&self) -> f64 {
        let ended = self.ended.as_ref().map_or(0.0, |(time, _)| *time);
        self.spans.iter().map(|span| span.start).min_by(f64::total_cmp).unwrap_or(ended)
    }

    /// The gaps before and between its spans, cut where its dependencies had ended.
    fn waits(&self, ready: f64) -> Vec<Span> {
        let mut spans: Vec<(f64, f64)> = self.spans.iter().map(|it| (it.start, it.end)).collect();
        spans.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut waits = Vec::new();
        let mut worked_until = 0.0_f64;
        for (start, end) in spans {
            let cut = ready.clamp(worked_until, start.max(worked_until));
            let parts = [
                ("dependencies", "waiting for dependencies", worked_until, cut),
                ("queue", "waiting for a free job", cut, start),
            ];
            for (kind, name, start, end) in parts {
                if end - start >= SHORTEST_WAIT {
                    waits.push(Span { kind, name: name.to_owned(), start, end });
                }
            }
            worked_until = worked_until.max(end);
        }
        waits
    }
}

fn span(span: &Span) -> Value {
    let name = escape::line(&span.name);
    json!({ "kind": span.kind, "name": name, "start": span.start, "end": span.end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(ready: f64, spans: &[(f64, f64)]) -> Vec<(&'static str, f64, f64)> {
        let mut step = TimedStep::default();
        for (start, end) in spans {
            step.work("a".to_owned(), *start, *end);
        }
        step.waits(ready).iter().map(|wait| (wait.kind, wait.start, wait.end)).collect()
    }

    #[test]
    fn what_lies_between_spans_is_waiting_for_dependencies_and_then_for_a_job() {
        assert_eq!(
            waits(2.0, &[(3.0, 4.0), (6.0, 7.0)]),
            [("dependencies", 0.0, 2.0), ("queue", 2.0, 3.0), ("queue", 4.0, 6.0)]
        );
        assert_eq!(
            waits(5.0, &[(1.0, 4.0), (6.0, 7.0)]),
            [("dependencies", 0.0, 1.0), ("dependencies", 4.0, 5.0), ("queue", 5.0, 6.0)]
        );
    }

    #[test]
    fn a_step_does_not_wait_while_any_of_its_tasks_works() {
        assert_eq!(waits(0.0, &[(0.0, 5.0), (1.0, 2.0), (3.0, 4.0), (5.0, 6.0)]), []);
        assert_eq!(waits(9.0, &[]), []);
    }
}
