//! Progress on a terminal: finished steps scroll past as single lines; below them are a
//! header with totals and one line per running step, updated in place. The alternate screen
//! is not used, so that scrolling back and copying work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use console::Style;
use xtask_core::escape;

use crate::event::{Event, InstructionStatus, PlannedComponent, Progress};
use crate::outcome::Outcome;
use crate::report::text;
use crate::ui::columns::{fit, flat, pad, width};
use crate::ui::keymap::{HELP, UiCommand};
use crate::ui::not_run::NotRun;
use crate::ui::options::UiOptions;
use crate::ui::plain::Plain;
use crate::ui::round_progress::{RoundProgress, StepProgress};
use crate::ui::screen::Screen;
use crate::ui::view::{Failed, Sight, View, failure_lines, paint};
use crate::ui::watch_status::WatchStatus;

/// Refresh interval while something runs.
const FAST: Duration = Duration::from_millis(100);

/// Refresh interval while `watch` is idle.
const SLOW: Duration = Duration::from_secs(1);

pub(crate) struct Terminal {
    options: UiOptions,
    plain: Plain,
    screen: Screen,
    /// The running round, if there is one.
    round: Option<RoundProgress>,
    /// What runs outside of steps: pushes by reference, and the reading of files.
    others: BTreeMap<String, (Instant, String)>,
    status: WatchStatus,
    not_run: NotRun,
    sight: Sight,
    /// The watched components, and their last outcomes.
    watched: Vec<PlannedComponent>,
    outcomes: BTreeMap<String, Outcome>,
    /// The changes that triggered the round.
    cause: String,
}

impl Terminal {
    pub(crate) fn new(options: UiOptions) -> Self {
        Self {
            options,
            plain: Plain::new(options),
            screen: Screen::new(),
            round: None,
            others: BTreeMap::new(),
            status: WatchStatus::default(),
            not_run: NotRun::default(),
            sight: Sight::default(),
            watched: Vec::new(),
            outcomes: BTreeMap::new(),
            cause: String::new(),
        }
    }

    fn print(&mut self, line: &str) {
        self.sight.printed(1);
        self.screen.print(&self.options.shown(line));
    }

    fn print_all(&mut self, lines: &[String]) {
        for line in lines {
            self.print(line);
        }
    }

    fn paint(&self, style: &Style, text: &str) -> String {
        paint(style, text, self.options.has_colors)
    }

    fn update(&mut self, component: &str, update: impl FnOnce(&mut StepProgress)) {
        if let Some(step) = self.round.as_mut().and_then(|round| round.step(component)) {
            update(step);
        }
    }

    fn finished(&mut self, component: &str, outcome: &Outcome, duration: Duration) {
        if let Some(round) = &mut self.round {
            round.step_finished(component, outcome);
        }
        self.outcomes.insert(component.to_owned(), outcome.clone());
        let mark = mark(outcome);
        let text = match outcome {
            Outcome::NotRun { .. } => return,
            Outcome::Built => text::seconds(duration),
            Outcome::UpToDate => "up to date".to_owned(),
            Outcome::Restored => "restored".to_owned(),
            Outcome::Pulled => "pulled".to_owned(),
            Outcome::InRegistry => "left in the registry".to_owned(),
            Outcome::Exported => "exported".to_owned(),
            Outcome::Failed => format!("failed after {}", text::seconds(duration)),
            Outcome::Cancelled => "cancelled".to_owned(),
            Outcome::Outdated => text::outcome(outcome, duration).0,
        };
        let (_, style) = text::outcome(outcome, duration);
        let dim = Style::new().dim();
        let line = format!("{} {component} {}", self.paint(&style, mark), self.paint(&dim, &text));
        self.print(&line);
    }

    fn progress(&mut self, progress: &Progress) {
        let text = text::progress(progress);
        match (&progress.component, &progress.subject) {
            (Some(component), _) => self.update(component, |step| step.activity = text),
            (None, subject) => {
                let key = subject.clone().unwrap_or_default();
                let started = Instant::now().checked_sub(progress.duration);
                self.others.insert(key, (started.unwrap_or_else(Instant::now), text));
            }
        }
    }

    fn draw(&mut self) {
        let columns = self.screen.columns();
        let has_colors = self.options.has_colors;
        let mut lines = Vec::new();
        for (started, text) in self.others.values() {
            let text = format!("{} {}", text::seconds(started.elapsed()), flat(text));
            lines.push(paint(&Style::new().cyan(), &fit(&text, columns), has_colors));
        }
        if let Some((text, style)) = self.status.line() {
            lines.push(self.paint(&style, &fit(&text, columns)));
        } else if let Some(round) = &self.round {
            let rows = self.screen.rows().saturating_sub(lines.len());
            lines.extend(round.lines(&self.cause, columns, rows, has_colors));
        }
        self.screen.draw(lines.iter().map(|line| self.options.shown(line)).collect());
    }

    /// The watched components in dependency order, with their states and dependencies.
    fn graph(&self) -> Vec<String> {
        let widths = self.watched.iter().map(|planned| width(&planned.component));
        let widest = widths.max().unwrap_or_default();
        let is_running =
            |name: &str| self.round.as_ref().is_some_and(|round| round.is_running(name));
        let line = |PlannedComponent { component, dependencies, .. }: &PlannedComponent| {
            let (mark, (text, style)) = match self.outcomes.get(component) {
                _ if is_running(component) => ("▸", ("building".to_owned(), Style::new().cyan())),
                Some(outcome) => (mark(outcome), text::state(outcome)),
                None => (" ", ("not built yet".to_owned(), Style::new().dim())),
            };
            let needs = match dependencies.join(", ") {
                needs if needs.is_empty() => needs,
                needs => self.paint(&Style::new().dim(), &format!(" ← {needs}")),
            };
            format!("{} {} {text}{needs}", self.paint(&style, mark), pad(component, widest))
        };
        self.watched.iter().map(line).collect()
    }
}

impl View for Terminal {
    fn event(&mut self, event: &Event) {
        self.not_run.note(event);
        match event {
            Event::RoundStarted { components, jobs, .. } if !components.is_empty() => {
                self.status.end();
                self.others.clear();
                if self.options.clears {
                    self.screen.clear();
                }
                self.round = Some(RoundProgress::new(components, *jobs));
                self.draw();
            }
            Event::WorkspaceLoaded { components } => self.watched.clone_from(components),
            Event::Watching(state) => {
                self.status.wait(state);
                self.cause.clear();
                self.draw();
            }
            Event::FilesChanged { paths, components } => {
                let text = text::changes(paths, components);
                self.cause = format!(" · {text}");
                let title = self.paint(&Style::new().cyan().bold(), "changed");
                self.print(&format!("{title}: {text}"));
            }
            Event::StepStarted { component } => {
                self.round.iter_mut().for_each(|round| round.step_started(component));
            }
            Event::StepPaused { component } => {
                self.round.iter_mut().for_each(|round| round.step_paused(component));
            }
            Event::StepResumed { component } => {
                self.round.iter_mut().for_each(|round| round.step_resumed(component));
            }
            Event::Instruction { component, text, status, .. }
                if *status != InstructionStatus::Done =>
            {
                self.update(component, |step| {
                    step.activity.clone_from(text);
                    step.last_line.clear();
                });
            }
            Event::Pulling { component, reference } => {
                self.update(component, |step| step.activity = format!("pulling {reference}"));
            }
            Event::TaskStarted { component, task } => {
                self.update(component, |step| step.activity.clone_from(task));
            }
            Event::ContextSent { component, .. } => {
                self.update(component, |step| "context sent".clone_into(&mut step.activity));
            }
            Event::Log { component, line, .. } => {
                self.update(component, |step| step.last_line = escape::log(line, false));
            }
            Event::Progress(progress) => self.progress(progress),
            Event::StepFinished { component, outcome, duration } => {
                self.finished(component, outcome, *duration);
            }
            Event::RoundFinished(summary) => {
                self.round = None;
                self.draw();
                for line in self.not_run.take_lines() {
                    self.print(&format!("{} {line}", self.paint(&Style::new().yellow(), "-")));
                }
                let style = text::summary_style(summary);
                let text = self.paint(&style, &text::summary(summary));
                self.print(&text);
                self.status.round_finished(summary);
            }
            Event::PushStarted { reference } => {
                let text = format!("pushing {reference}");
                self.others.insert(reference.clone(), (Instant::now(), text));
                self.draw();
            }
            Event::Pushed { reference, .. } => drop(self.others.remove(reference)),
            Event::PushFailed { reference, .. } => {
                self.others.remove(reference);
                self.print_plain(event);
            }
            Event::ImageStale { component, image, reasons } => {
                let name =
                    if component == image { component } else { &format!("{component}: {image}") };
                let text = format!("  {name}: {}", text::reasons(reasons));
                self.print(&self.paint(&Style::new().dim(), &text));
            }
            Event::Instruction { .. }
            | Event::ImageUpToDate { .. }
            | Event::ImagePulled { .. }
            | Event::ImageInRegistry { .. }
            | Event::ImageBuilt { .. } => {}
            other => self.print_plain(other),
        }
    }

    fn refresh_interval(&self) -> Option<Duration> {
        let is_busy = self.round.is_some() || !self.others.is_empty();
        match (is_busy, self.status.is_waiting()) {
            (true, _) => Some(FAST),
            (false, true) => Some(SLOW),
            (false, false) => None,
        }
    }

    fn execute(&mut self, command: UiCommand, failures: &[Failed]) {
        let lines = match command {
            UiCommand::Resume => {
                self.screen.forget();
                Vec::new()
            }
            UiCommand::Help => HELP.map(str::to_owned).to_vec(),
            UiCommand::Graph => self.graph(),
            UiCommand::Logs if failures.is_empty() => vec!["no failures".to_owned()],
            UiCommand::Logs => {
                let all = failures.iter();
                all.flat_map(|failed| failure_lines(failed, self.options.has_colors)).collect()
            }
        };
        self.print_all(&lines);
    }

    fn tick(&mut self) {
        self.draw();
    }

    fn make_room(&mut self) {
        self.screen.draw(Vec::new());
    }

    fn end(&mut self) {
        self.status.end();
        self.round = None;
        self.others.clear();
        self.draw();
    }

    fn failed(&mut self, failed: &Failed) {
        self.print_all(&failure_lines(failed, self.options.has_colors));
        self.sight.shown(failed);
    }

    fn failures(&mut self, failures: &[Failed]) {
        let rows = self.screen.rows();
        let again = self.sight.lines_again(failures, rows, self.options.has_colors);
        self.print_all(&again);
    }
}

impl Terminal {
    fn print_plain(&mut self, event: &Event) {
        let lines = self.plain.lines(event);
        self.print_all(&lines);
    }
}

fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Built | Outcome::Exported => "✓",
        Outcome::UpToDate | Outcome::Restored | Outcome::Pulled | Outcome::InRegistry => "=",
        Outcome::Failed => "✗",
        Outcome::Cancelled | Outcome::Outdated | Outcome::NotRun { .. } => "-",
    }
}
