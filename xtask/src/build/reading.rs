//! Reads files off the main thread, and says how far that is if it takes long.

use std::io;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at};
use xtask_core::context::tree::bytes_digested;

use crate::event::{Event, Operation, Progress};
use crate::event_channel::Events;

const INTERVAL: Duration = Duration::from_millis(500);

/// Sends how many bytes have been digested, for a component or for the whole workspace. Never
/// ends.
pub(crate) async fn report(component: Option<&str>, events: &Events) -> ! {
    let (started, before) = (Instant::now(), bytes_digested());
    let mut ticks = interval_at((started + INTERVAL).into(), INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = before;
    loop {
        ticks.tick().await;
        let now = bytes_digested();
        if now == told {
            continue;
        }
        told = now;
        events.send(Event::Progress(Progress {
            component: component.map(str::to_owned),
            operation: Operation::Read,
            subject: None,
            bytes: now - before,
            total_bytes: None,
            duration: started.elapsed(),
        }));
    }
}

/// Reads files on another thread.
pub(crate) async fn read<T: Send + 'static>(
    component: &str,
    events: &Events,
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    tokio::select! {
        read = tokio::task::spawn_blocking(read) => read.map_err(io::Error::other),
        never = report(Some(component), events) => never,
    }
}
