//! How long a step worked: the time during which at least one of its tasks ran. Waiting for a
//! job is not work.

use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct WorkClock {
    /// The number of tasks that run.
    running: usize,
    since: Option<Instant>,
    before: Duration,
}

impl WorkClock {
    pub(crate) fn task_started(&mut self) {
        self.running += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    pub(crate) fn task_ended(&mut self) {
        self.running = self.running.saturating_sub(1);
        if self.running == 0 {
            self.before = self.worked();
            self.since = None;
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running > 0
    }

    pub(crate) fn worked(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
