//! The status of `watch` while it waits for changes.

use std::time::{Duration, Instant};

use console::Style;

use crate::event::WatchState;
use crate::outcome::Summary;
use crate::report::text;
use crate::ui::columns::flat;

/// More names of failed components are counted.
const MAX_NAMES: usize = 3;

/// What the status line says.
#[derive(Default)]
pub(crate) struct WatchStatus {
    /// None while a round runs.
    waiting: Option<WatchState>,
    /// When the last round ended, and its result.
    last: Option<(Instant, String)>,
}

impl WatchStatus {
    pub(crate) fn wait(&mut self, state: &WatchState) {
        self.waiting = Some(state.clone());
    }

    pub(crate) fn end(&mut self) {
        self.waiting = None;
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(crate) fn round_finished(&mut self, summary: &Summary) {
        self.last = Some((Instant::now(), text::result(summary)));
    }

    /// The line, and its color; none while a round runs.
    pub(crate) fn line(&self) -> Option<(String, Style)> {
        let WatchState { is_paused, is_broken, components, failed } = self.waiting.as_ref()?;
        let mut parts = Vec::new();
        if *is_broken {
            parts.push("the workspace has errors".to_owned());
        } else if !failed.is_empty() {
            parts.push(format!("failed: {}", flat(&names(failed))));
        }
        let is_bad = *is_broken || !failed.is_empty();
        // An old success must not stand beside an error.
        if let Some((at, result)) = self.last.as_ref().filter(|_| !is_bad) {
            parts.push(format!("{result} {}", ago(at.elapsed())));
        }
        parts.push(match (is_paused, is_broken) {
            (true, true) => "paused".to_owned(),
            (true, false) => format!("paused ({components} {})", plural(*components)),
            (false, true) => "waiting for a change".to_owned(),
            (false, false) => format!("watching {components} {}", plural(*components)),
        });
        parts.push("? for keys".to_owned());
        let style = if is_bad { Style::new().red().bold() } else { Style::new().cyan() };
        Some((parts.join(" · "), style))
    }
}

fn names(components: &[String]) -> String {
    match components.len().saturating_sub(MAX_NAMES) {
        0 => components.join(", "),
        more => format!("{} and {more} more", components[..MAX_NAMES].join(", ")),
    }
}

fn plural(components: usize) -> &'static str {
    if components == 1 { "component" } else { "components" }
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s ago"),
        seconds @ 60..3600 => format!("{}min ago", seconds / 60),
        seconds => format!("{}h ago", seconds / 3600),
    }
}
