//! How far a transfer is, as events: at most twice a second, and none for a short one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, Operation, Progress};
use crate::event_channel::Events;

/// The time between two events.
const INTERVAL: Duration = Duration::from_millis(500);

/// Counts the bytes of one transfer. Threads share it.
#[derive(Debug)]
pub(crate) struct Meter {
    events: Events,
    component: Option<String>,
    operation: Operation,
    subject: String,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: u64,
    total: Option<u64>,
    told: Instant,
}

impl Meter {
    pub(crate) fn new(
        events: &Events,
        component: Option<&str>,
        operation: Operation,
        subject: &str,
        total: Option<u64>,
    ) -> Self {
        let now = Instant::now();
        Self {
            events: events.clone(),
            component: component.map(str::to_owned),
            operation,
            subject: subject.to_owned(),
            started: now,
            state: Mutex::new(State { bytes: 0, total, told: now }),
        }
    }

    /// Counts more bytes.
    pub(crate) fn add(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.update(|state| state.bytes = state.bytes.saturating_add(bytes));
    }

    /// Notes how many bytes are done, and how many there are.
    pub(crate) fn set(&self, (bytes, total): (u64, u64)) {
        self.update(|state| (state.bytes, state.total) = (bytes, Some(total)));
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        update(&mut state);
        if state.told.elapsed() < INTERVAL {
            return;
        }
        state.told = Instant::now();
        self.events.send(Event::Progress(Progress {
            component: self.component.clone(),
            operation: self.operation,
            subject: Some(self.subject.clone()),
            bytes: state.total.map_or(state.bytes, |total| state.bytes.min(total)),
            total_bytes: state.total,
            duration: self.started.elapsed(),
        }));
    }
}
