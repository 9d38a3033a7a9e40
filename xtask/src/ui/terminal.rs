//! Progress on a terminal: finished steps scroll past as single lines; below them are a
//! header with totals and one line per running step, updated in place. The alternate screen
//! is not used, so that scrolling back and copying work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use console::Style;
use xtask_core::escape;

use crate::event::{Event, InstructionStatus, PlannedComponent};
use crate::outcome::Outcome;
use crate::report::text;
use crate::ui::keymap::{HELP, UiCommand};
use crate::ui::options::UiOptions;
use crate::ui::plain::Plain;
use crate::ui::screen::Screen;
use crate::ui::view::{Failed, View, failure_lines, paint};

/// Refresh interval while steps run.
const FAST: Duration = Duration::from_millis(100);

/// Refresh interval while `watch` is idle.
const SLOW: Duration = Duration::from_secs(1);

/// More running steps than this would push finished ones off the screen.
const MAX_LINES: usize = 16;

pub(crate) struct Terminal {
    options: UiOptions,
    plain: Plain,
    screen: Screen,
    is_drawn: bool,
    started: Instant,
    jobs: usize,
    planned: BTreeMap<String, PlannedComponent>,
    running: BTreeMap<String, Running>,
    done: BTreeSet<String>,
    has_built: bool,
    /// The status while `watch` waits for changes.
    idle: Option<String>,
    /// When the last round ended, and its result.
    last: Option<(Instant, String)>,
    /// The watched components, and their last outcomes.
    watched: Vec<PlannedComponent>,
    outcomes: BTreeMap<String, Outcome>,
    /// The changes that triggered the round.
    cause: String,
}

struct Running {
    started: Instant,
    estimate: Option<Duration>,
    instruction: String,
    last_line: String,
}

impl Terminal {
    pub(crate) fn new(options: UiOptions) -> Self {
        Self {
            options,
            plain: Plain::new(options),
            screen: Screen::new(),
            is_drawn: false,
            started: Instant::now(),
            jobs: 1,
            planned: BTreeMap::new(),
            running: BTreeMap::new(),
            done: BTreeSet::new(),
            has_built: false,
            idle: None,
            last: None,
            watched: Vec::new(),
            outcomes: BTreeMap::new(),
            cause: String::new(),
        }
    }

    fn print(&mut self, line: &str) {
        self.screen.print(&self.options.shown(line));
    }

    fn paint(&self, style: &Style, text: &str) -> String {
        paint(style, text, self.options.has_colors)
    }

    fn begin(&mut self, components: &[PlannedComponent], jobs: usize) {
        (self.jobs, self.has_built) = (jobs, false);
        self.started = Instant::now();
        self.done.clear();
        self.planned =
            components.iter().map(|planned| (planned.component.clone(), planned.clone())).collect();
        self.is_drawn = true;
        self.draw();
    }

    fn start(&mut self, component: &str) {
        self.done.remove(component);
        let running = Running {
            started: Instant::now(),
            estimate: self.planned.get(component).and_then(|planned| planned.estimate),
            instruction: String::new(),
            last_line: String::new(),
        };
        self.running.insert(component.to_owned(), running);
    }

    fn finish(&mut self, component: &str, outcome: &Outcome, duration: Duration) {
        self.running.remove(component);
        self.outcomes.insert(component.to_owned(), outcome.clone());
        if *outcome != Outcome::Outdated {
            self.done.insert(component.to_owned());
        }
        self.has_built |= *outcome == Outcome::Built;
        let mark = mark(outcome);
        let text = match outcome {
            Outcome::Built => text::seconds(duration),
            Outcome::UpToDate => "up to date".to_owned(),
            Outcome::Restored => "restored".to_owned(),
            Outcome::Failed => format!("failed after {}", text::seconds(duration)),
            Outcome::Cancelled => "cancelled".to_owned(),
            Outcome::Outdated | Outcome::NotRun { .. } => text::outcome(outcome, duration).0,
        };
        let (_, style) = text::outcome(outcome, duration);
        let dim = Style::new().dim();
        let line = format!("{} {component} {}", self.paint(&style, mark), self.paint(&dim, &text));
        self.print(&line);
    }

    fn header(&self) -> String {
        let counts = format!(
            "{} done, {} running, {} waiting",
            self.done.len(),
            self.running.len(),
            self.waiting().count()
        );
        let left = match self.left() {
            Some(left) if self.has_built => format!(", about {} left", roughly(left)),
            _ => String::new(),
        };
        let elapsed = text::seconds(self.started.elapsed());
        let text = format!("{counts}{left} · {elapsed}{}", self.cause);
        self.paint(&Style::new().cyan().bold(), &text)
    }

    fn waiting(&self) -> impl Iterator<Item = &PlannedComponent> {
        let is_waiting =
            |name: &String| !self.running.contains_key(name) && !self.done.contains(name);
        self.planned.iter().filter(move |(name, _)| is_waiting(name)).map(|(_, planned)| planned)
    }

    /// The estimated remaining time, by the durations of previous builds: the longest remaining
    /// step or the total work divided by the jobs, whichever is longer.
    fn left(&self) -> Option<Duration> {
        let known: Vec<Duration> = self.waiting().filter_map(|planned| planned.estimate).collect();
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
        if let Some(idle) = &self.idle {
            let last = match &self.last {
                Some((at, text)) => format!("{text} {} · ", ago(at.elapsed())),
                None => String::new(),
            };
            let text = format!("{last}{idle} · ? for keys");
            return self.screen.draw(vec![self.paint(&Style::new().cyan(), &text)]);
        }
        if !self.is_drawn {
            return;
        }
        let mut lines = vec![self.header()];
        for (component, running) in self.running.iter().take(MAX_LINES) {
            let time = text::seconds(running.started.elapsed());
            let Running { instruction, last_line, .. } = running;
            let dim = self.paint(&Style::new().dim(), last_line);
            lines.push(format!("  {component} {time} {instruction} {dim}"));
        }
        let hidden = self.running.len().saturating_sub(MAX_LINES);
        if hidden > 0 {
            lines.push(format!("  and {hidden} more"));
        }
        let lines = lines.iter().map(|line| self.options.shown(line)).collect();
        self.screen.draw(lines);
    }

    fn wait(&mut self, is_paused: bool, components: usize) {
        self.idle = Some(if is_paused {
            format!("paused ({components} components)")
        } else {
            format!("watching {components} components")
        });
        self.cause.clear();
        self.draw();
    }

    /// The watched components in dependency order, with their states and dependencies.
    fn graph(&self) -> Vec<String> {
        let width = |planned: &PlannedComponent| planned.component.chars().count();
        let width = self.watched.iter().map(width).max().unwrap_or_default();
        let line = |PlannedComponent { component, dependencies, .. }: &PlannedComponent| {
            let (mark, (text, style)) = match self.outcomes.get(component) {
                _ if self.running.contains_key(component) => {
                    ("▸", ("building".to_owned(), Style::new().cyan()))
                }
                Some(outcome) => (mark(outcome), text::state(outcome)),
                None => (" ", ("not built yet".to_owned(), Style::new().dim())),
            };
            let needs = match dependencies.join(", ") {
                needs if needs.is_empty() => needs,
                needs => self.paint(&Style::new().dim(), &format!(" ← {needs}")),
            };
            format!("{} {component:width$} {text}{needs}", self.paint(&style, mark))
        };
        self.watched.iter().map(line).collect()
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
                self.idle = None;
                if self.options.clears {
                    self.screen.clear();
                }
                self.begin(components, *jobs);
            }
            Event::WorkspaceLoaded { components } => self.watched.clone_from(components),
            Event::Watching { is_paused, components, .. } => self.wait(*is_paused, *components),
            Event::FilesChanged { paths, components } => {
                let text = text::changes(paths, components);
                self.cause = format!(" · {text}");
                let title = self.paint(&Style::new().cyan().bold(), "changed");
                self.print(&format!("{title}: {text}"));
            }
            Event::StepStarted { component } => self.start(component),
            Event::Instruction { component, text, status, .. } => {
                if let Some(running) = self.running.get_mut(component)
                    && *status != InstructionStatus::Done
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
            Event::TaskStarted { component, task: part } => {
                if let Some(running) = self.running.get_mut(component) {
                    running.instruction.clone_from(part);
                }
            }
            Event::Log { component, line, .. } => {
                if let Some(running) = self.running.get_mut(component) {
                    running.last_line = escape::log(line, false);
                }
            }
            Event::StepFailed(failure) => {
                let title = self.paint(&Style::new().red().bold(), "error");
                self.print(&format!("{title}: {}", failure.message));
            }
            Event::StepFinished { component, outcome, duration } => {
                self.finish(component, outcome, *duration);
            }
            Event::RoundFinished(summary) => {
                self.clear();
                let style = text::summary_style(summary);
                let text = self.paint(&style, &text::summary(summary));
                self.print(&text);
                self.last = Some((Instant::now(), text::result(summary)));
            }
            Event::ImageStale { component, image, reasons } => {
                let name =
                    if component == image { component } else { &format!("{component}: {image}") };
                let text = format!("  {name}: {}", text::reasons(reasons));
                self.print(&self.paint(&Style::new().dim(), &text));
            }
            Event::ImageUpToDate { .. } | Event::ImageBuilt { .. } => {}
            other => {
                for line in self.plain.lines(other) {
                    self.print(&line);
                }
            }
        }
    }

    fn refresh_interval(&self) -> Option<Duration> {
        match (&self.idle, self.is_drawn) {
            (Some(_), _) => Some(SLOW),
            (None, true) => Some(FAST),
            (None, false) => None,
        }
    }

    fn execute(&mut self, command: UiCommand, failures: &[Failed]) {
        let lines = match command {
            UiCommand::Help => HELP.map(str::to_owned).to_vec(),
            UiCommand::Graph => self.graph(),
            UiCommand::Logs if failures.is_empty() => vec!["no failures".to_owned()],
            UiCommand::Logs => failure_lines(failures, self.options.has_colors),
        };
        for line in lines {
            self.print(&line);
        }
    }

    fn tick(&mut self) {
        self.draw();
    }

    fn end(&mut self) {
        self.idle = None;
        self.clear();
    }

    fn failures(&mut self, failures: &[Failed]) {
        for line in failure_lines(failures, self.options.has_colors) {
            self.print(&line);
        }
    }
}

fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Built => "✓",
        Outcome::UpToDate | Outcome::Restored => "=",
        Outcome::Failed => "✗",
        Outcome::Cancelled | Outcome::Outdated | Outcome::NotRun { .. } => "-",
    }
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s ago"),
        seconds @ 60..3600 => format!("{}min ago", seconds / 60),
        seconds => format!("{}h ago", seconds / 3600),
    }
}

/// Rounded to whole seconds, or to minutes from 100 seconds on.
fn roughly(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=99 => format!("{seconds}s"),
        seconds => format!("{}min", seconds.div_ceil(60)),
    }
}
