//! How far a round is: its steps, and the lines that show them in the live area.
//!
//! A step is shown while it works. One that waits for a job is counted among those that wait,
//! and its clock stands still.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use console::Style;

use crate::event::PlannedComponent;
use crate::outcome::Outcome;
use crate::report::text;
use crate::ui::columns::{fit, flat, width};
use crate::ui::view::paint;

/// More running steps than this would push finished ones off the screen.
const MAX_LINES: usize = 16;

/// The steps of a round.
#[derive(Default)]
pub(crate) struct RoundProgress {
    started: Option<Instant>,
    jobs: usize,
    /// In build order.
    planned: Vec<PlannedComponent>,
    steps: BTreeMap<String, StepProgress>,
    done: BTreeSet<String>,
    failed: BTreeSet<String>,
    has_built: bool,
}

/// A step that was started.
#[derive(Default)]
pub(crate) struct StepProgress {
    /// Since when it works; none while it waits for a job.
    since: Option<Instant>,
    before: Duration,
    /// What it does.
    pub(crate) activity: String,
    /// The last line that this wrote.
    pub(crate) last_line: String,
}

impl StepProgress {
    fn worked(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn pause(&mut self) {
        self.before = self.worked();
        self.since = None;
    }
}

impl RoundProgress {
    pub(crate) fn new(planned: &[PlannedComponent], jobs: usize) -> Self {
        let (started, planned) = (Some(Instant::now()), planned.to_vec());
        Self { started, jobs, planned, ..Self::default() }
    }

    pub(crate) fn step_started(&mut self, component: &str) {
        self.done.remove(component);
        self.failed.remove(component);
        let step = StepProgress { since: Some(Instant::now()), ..StepProgress::default() };
        self.steps.insert(component.to_owned(), step);
    }

    pub(crate) fn step_paused(&mut self, component: &str) {
        if let Some(step) = self.steps.get_mut(component) {
            step.pause();
        }
    }

    pub(crate) fn step_resumed(&mut self, component: &str) {
        if let Some(step) = self.steps.get_mut(component) {
            step.since.get_or_insert_with(Instant::now);
        }
    }

    pub(crate) fn step_finished(&mut self, component: &str, outcome: &Outcome) {
        self.steps.remove(component);
        self.has_built |= *outcome == Outcome::Built;
        match outcome {
            Outcome::Outdated => {}
            Outcome::Failed => drop(self.failed.insert(component.to_owned())),
            _ => drop(self.done.insert(component.to_owned())),
        }
    }

    pub(crate) fn step(&mut self, component: &str) -> Option<&mut StepProgress> {
        self.steps.get_mut(component)
    }

    pub(crate) fn is_running(&self, component: &str) -> bool {
        self.running().any(|(name, _)| name == component)
    }

    fn running(&self) -> impl Iterator<Item = (&String, &StepProgress)> {
        self.steps.iter().filter(|(_, step)| step.since.is_some())
    }

    /// The header with totals, and a line for each running step, within so many columns and
    /// lines.
    pub(crate) fn lines(
        &self,
        cause: &str,
        columns: usize,
        rows: usize,
        has_colors: bool,
    ) -> Vec<String> {
        let mut lines = vec![self.header(cause, columns, has_colors)];
        let most = rows.saturating_sub(2).clamp(1, MAX_LINES);
        for (component, step) in self.running().take(most) {
            lines.push(step_line(component, step, columns, has_colors));
        }
        let hidden = self.running().count().saturating_sub(most);
        if hidden > 0 {
            lines.push(format!("  and {hidden} more"));
        }
        lines
    }

    fn header(&self, cause: &str, columns: usize, has_colors: bool) -> String {
        let running = self.running().count();
        let ended = self.done.len() + self.failed.len();
        let waiting = self.planned.len().saturating_sub(ended + running);
        let left = match self.left() {
            Some(left) if self.has_built => format!(", about {} left", roughly(left)),
            _ => String::new(),
        };
        let elapsed = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        let done = format!("{} done", self.done.len());
        let failed = match self.failed.len() {
            0 => String::new(),
            failed => format!("{failed} failed"),
        };
        let rest = format!(
            ", {running} running, {waiting} waiting{left} · {}{}",
            text::seconds(elapsed),
            flat(cause)
        );
        let separator = if failed.is_empty() { "" } else { ", " };
        let room = columns.saturating_sub(width(&done) + separator.len() + width(&failed));
        let normal = Style::new().cyan().bold();
        [
            paint(&normal, &format!("{done}{separator}"), has_colors),
            paint(&Style::new().red().bold(), &failed, has_colors),
            paint(&normal, &fit(&rest, room), has_colors),
        ]
        .concat()
    }

    /// The estimated remaining time, by the durations of previous builds: that of the longest
    /// chain of remaining steps, or of all their work shared among the jobs.
    fn left(&self) -> Option<Duration> {
        let (mut work, mut longest) = (Duration::ZERO, Duration::ZERO);
        let mut ends: HashMap<&str, Duration> = HashMap::new();
        for PlannedComponent { component, dependencies, estimate } in &self.planned {
            if self.done.contains(component) || self.failed.contains(component) {
                continue;
            }
            let worked = self.steps.get(component).map_or(Duration::ZERO, StepProgress::worked);
            let remaining = estimate.unwrap_or_default().saturating_sub(worked);
            let before = dependencies.iter().filter_map(|needed| ends.get(needed.as_str())).max();
            let end = before.copied().unwrap_or_default() + remaining;
            ends.insert(component, end);
            work += remaining;
            longest = longest.max(end);
        }
        let shared = work / u32::try_from(self.jobs).unwrap_or(1).max(1);
        Some(longest.max(shared)).filter(|left| !left.is_zero())
    }
}

/// A running step: what it does, and the last line that this wrote, which is never crowded
/// out.
fn step_line(component: &str, step: &StepProgress, columns: usize, has_colors: bool) -> String {
    let component = flat(component);
    let name = fit(&component, (columns / 2).saturating_sub(2));
    let start = format!("  {name} {} ", text::seconds(step.worked()));
    let room = columns.saturating_sub(width(&start));
    let (activity, last_line) = (flat(&step.activity), flat(&step.last_line));
    let wanted = width(&last_line) + usize::from(!last_line.is_empty());
    let activity = fit(&activity, (room / 2).max(room.saturating_sub(wanted)));
    let separator = if activity.is_empty() || last_line.is_empty() { "" } else { " " };
    let room = room.saturating_sub(width(&activity) + separator.len());
    let last_line = paint(&Style::new().dim(), &fit(&last_line, room), has_colors);
    format!("{start}{activity}{separator}{last_line}")
}

/// Rounded to whole seconds, or to minutes from 100 seconds on.
fn roughly(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=99 => format!("{seconds}s"),
        seconds => format!("{}min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(component: &str, dependencies: &[&str], seconds: u64) -> PlannedComponent {
        PlannedComponent {
            component: component.to_owned(),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            estimate: Some(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn a_chain_takes_as_long_as_its_steps_together() {
        let chain = [planned("a", &[], 10), planned("b", &["a"], 20), planned("c", &["b"], 30)];
        let mut progress = RoundProgress::new(&chain, 8);
        assert_eq!(progress.left(), Some(Duration::from_mins(1)));
        progress.step_started("a");
        progress.step_finished("a", &Outcome::Built);
        assert_eq!(progress.left(), Some(Duration::from_secs(50)));
    }

    #[test]
    fn independent_steps_share_the_jobs() {
        let many: Vec<_> = (0..10).map(|n| planned(&n.to_string(), &[], 10)).collect();
        assert_eq!(RoundProgress::new(&many, 4).left(), Some(Duration::from_secs(25)));
    }

    #[test]
    fn a_paused_step_is_not_shown_and_its_clock_stands_still() {
        let mut progress = RoundProgress::new(&[planned("a", &[], 1)], 1);
        progress.step_started("a");
        progress.step_paused("a");
        let worked = progress.steps["a"].worked();
        assert!(!progress.is_running("a"));
        assert_eq!(progress.lines("", 80, 24, false).len(), 1);
        assert_eq!(progress.steps["a"].worked(), worked);
        progress.step_resumed("a");
        assert_eq!(progress.lines("", 80, 24, false).len(), 2);
    }

    #[test]
    fn the_last_line_is_seen_beside_a_long_instruction() {
        let step = |activity: &str, last_line: &str| {
            let since = Some(Instant::now());
            let (activity, last_line) = (activity.to_owned(), last_line.to_owned());
            let step = StepProgress { since, before: Duration::ZERO, activity, last_line };
            step_line("web", &step, 40, false)
        };
        let long = "[2/9] RUN apt-get update && apt-get install";
        assert_eq!(step(long, "Get:17 libfoo"), "  web 0.0s [2/9] RUN apt-… Get:17 libfoo");
        assert_eq!(step(long, &long[10..]), "  web 0.0s [2/9] RUN apt… apt-get updat…");
        assert_eq!(step(long, "ok"), "  web 0.0s [2/9] RUN apt-get update … ok");
        assert_eq!(step("[1/9] FROM a", ""), "  web 0.0s [1/9] FROM a");
    }
}
