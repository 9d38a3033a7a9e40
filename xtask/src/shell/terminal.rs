//! Events on a terminal: what is over scrolls up as single lines, what runs is below,
//! one line each, under a line on the whole. Nothing takes over the screen, so that
//! scrolling back and copying work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use console::Style;

use super::plain::Plain;
use super::screen::Screen;
use super::ui::{How, View, failure_lines, paint};
use super::words;
use crate::event::{Event, Failure, InstructionState, Outcome, PlannedComponent};

/// More lines than this would push what is over off the screen.
const MOST_LINES: usize = 16;

pub(super) struct Terminal {
    how: How,
    plain: Plain,
    screen: Screen,
    is_drawn: bool,
    started: Instant,
    jobs: usize,
    waiting: BTreeMap<String, PlannedComponent>,
    running: BTreeMap<String, Running>,
    done: usize,
    has_built: bool,
}

struct Running {
    started: Instant,
    estimate: Option<Duration>,
    instruction: String,
    last_line: String,
}

impl Terminal {
    pub(super) fn new(how: How) -> Self {
        Self {
            how,
            plain: Plain::new(how),
            screen: Screen::new(),
            is_drawn: false,
            started: Instant::now(),
            jobs: 1,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            done: 0,
            has_built: false,
        }
    }

    fn say(&mut self, line: &str) {
        self.screen.say(line);
    }

    fn paint(&self, style: &Style, text: &str) -> String {
        paint(style, text, self.how.has_colors)
    }

    fn begin(&mut self, components: &[PlannedComponent], jobs: usize) {
        self.jobs = jobs;
        self.waiting =
            components.iter().map(|planned| (planned.component.clone(), planned.clone())).collect();
        self.is_drawn = true;
        self.draw();
    }

    fn start(&mut self, component: &str) {
        let planned = self.waiting.remove(component);
        let running = Running {
            started: Instant::now(),
            estimate: planned.and_then(|planned| planned.estimate),
            instruction: String::new(),
            last_line: String::new(),
        };
        self.running.insert(component.to_owned(), running);
    }

    fn finish(&mut self, component: &str, outcome: &Outcome, duration: Duration) {
        self.waiting.remove(component);
        self.running.remove(component);
        self.done += 1;
        self.has_built |= *outcome == Outcome::Built;
        let (mark, text) = match outcome {
            Outcome::Built => ("✓", words::seconds(duration)),
            Outcome::UpToDate => ("=", "up to date".to_owned()),
            Outcome::Restored => ("=", "restored".to_owned()),
            Outcome::Failed => ("✗", format!("failed after {}", words::seconds(duration))),
            Outcome::Cancelled => ("-", "cancelled".to_owned()),
            Outcome::NotTried { .. } => ("-", words::outcome(outcome, duration).0),
        };
        let (_, style) = words::outcome(outcome, duration);
        let dim = Style::new().dim();
        let line = format!("{} {component} {}", self.paint(&style, mark), self.paint(&dim, &text));
        self.say(&line);
    }

    fn header(&self) -> String {
        let counts = format!(
            "{} done, {} running, {} waiting",
            self.done,
            self.running.len(),
            self.waiting.len()
        );
        let left = match self.left() {
            Some(left) if self.has_built => format!(", about {} left", roughly(left)),
            _ => String::new(),
        };
        let elapsed = words::seconds(self.started.elapsed());
        self.paint(&Style::new().cyan().bold(), &format!("{counts}{left} · {elapsed}"))
    }

    /// How long the rest takes if everything takes as long as it did last: no less
    /// than the longest chain, and than all work shared among the jobs.
    fn left(&self) -> Option<Duration> {
        let known: Vec<Duration> =
            self.waiting.values().filter_map(|planned| planned.estimate).collect();
        let running = self.running.values().map(|running| {
            running.estimate.unwrap_or_default().saturating_sub(running.started.elapsed())
        });
        let running: Vec<Duration> = running.collect();
        if known.is_empty() && running.iter().all(Duration::is_zero) {
            return None;
        }
        let work: Duration = known.iter().chain(&running).sum();
        let longest = known.iter().chain(&running).max().copied().unwrap_or_default();
        let shared = work / u32::try_from(self.jobs).unwrap_or(1).max(1);
        Some(longest.max(shared))
    }

    fn draw(&mut self) {
        if !self.is_drawn {
            return;
        }
        let mut lines = vec![self.header()];
        for (component, running) in self.running.iter().take(MOST_LINES) {
            let time = words::seconds(running.started.elapsed());
            let Running { instruction, last_line, .. } = running;
            let dim = self.paint(&Style::new().dim(), last_line);
            lines.push(format!("  {component} {time} {instruction} {dim}"));
        }
        let hidden = self.running.len().saturating_sub(MOST_LINES);
        if hidden > 0 {
            lines.push(format!("  and {hidden} more"));
        }
        self.screen.draw(lines);
    }

    fn clear(&mut self) {
        self.is_drawn = false;
        self.screen.draw(Vec::new());
    }
}

impl View for Terminal {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RoundStarted { components, jobs, .. } if !components.is_empty() => {
                self.begin(components, *jobs);
            }
            Event::StepStarted { component } => self.start(component),
            Event::Instruction { component, text, state, .. } => {
                if let Some(running) = self.running.get_mut(component)
                    && *state != InstructionState::Done
                {
                    running.instruction.clone_from(text);
                    running.last_line.clear();
                }
            }
            Event::Pulling { component, reference } => {
                if let Some(running) = self.running.get_mut(component) {
                    running.instruction = format!("pulling {reference}");
                }
            }
            Event::PartStarted { component, part } => {
                if let Some(running) = self.running.get_mut(component) {
                    running.instruction.clone_from(part);
                }
            }
            Event::Log { component, line, .. } => {
                if let Some(running) = self.running.get_mut(component) {
                    running.last_line = words::printable(line, false).replace('\t', " ");
                }
            }
            Event::StepFailed(failure) => {
                let title = self.paint(&Style::new().red().bold(), "error");
                self.say(&format!("{title}: {}", failure.message));
            }
            Event::StepFinished { component, outcome, duration } => {
                self.finish(component, outcome, *duration);
            }
            Event::RoundFinished(summary) => {
                self.clear();
                let style = words::summary_style(summary);
                let text = self.paint(&style, &words::summary(summary));
                self.say(&text);
            }
            Event::ImageStale { component, image, reasons } => {
                let name =
                    if component == image { component } else { &format!("{component}: {image}") };
                let text = format!("  {name}: {}", words::reasons(reasons));
                self.say(&self.paint(&Style::new().dim(), &text));
            }
            Event::ImageUpToDate { .. } | Event::ImageBuilt { .. } => {}
            other => {
                for line in self.plain.lines(other) {
                    self.say(&line);
                }
            }
        }
    }

    fn tick(&mut self) {
        self.draw();
    }

    fn failures(&mut self, failures: &[(Failure, Vec<String>)]) {
        for line in failure_lines(failures, self.how.has_colors) {
            self.say(&line);
        }
    }
}

/// Whole seconds, or minutes if these are many.
fn roughly(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=99 => format!("{seconds}s"),
        seconds => format!("{}min", seconds.div_ceil(60)),
    }
}
