//! The channel that events are sent on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::event::Event;

/// An event and when it was sent.
#[derive(Clone, Debug)]
pub struct TimedEvent {
    /// When it was sent.
    pub time: SystemTime,
    /// What happened.
    pub event: Event,
}

/// The sending half. Sending never fails: a reader that is gone does not stop a build.
#[derive(Clone, Debug)]
pub struct Events {
    channel: UnboundedSender<TimedEvent>,
    /// None where log lines are not counted.
    backlog: Option<Arc<Backlog>>,
}

/// The log lines that were sent and not read yet.
#[derive(Debug, Default)]
struct Backlog {
    lines: AtomicUsize,
    is_shorter: Notify,
}

/// How many log lines may be unread before their writer waits.
const MOST_LINES: usize = 10_000;

impl Events {
    /// Sends to `channel`.
    pub fn new(channel: UnboundedSender<TimedEvent>) -> Self {
        Self { channel, backlog: None }
    }

    /// A channel whose reader endless logs wait for.
    pub(crate) fn with_reader() -> (Self, EventReader) {
        let (channel, events) = unbounded_channel();
        let backlog = Arc::<Backlog>::default();
        (Self { channel, backlog: Some(Arc::clone(&backlog)) }, EventReader { events, backlog })
    }

    /// A channel that nobody reads.
    pub fn unread() -> Self {
        Self::new(unbounded_channel().0)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        if let (Some(backlog), Event::Log { .. }) = (&self.backlog, &event) {
            backlog.lines.fetch_add(1, Ordering::Relaxed);
        }
        drop(self.channel.send(TimedEvent { time: SystemTime::now(), event }));
    }

    /// Waits while too many log lines are unread: what an instruction or a hook writes may be
    /// endless, and memory is not.
    pub(crate) async fn wait_for_reader(&self) {
        let Some(backlog) = &self.backlog else { return };
        loop {
            let is_shorter = backlog.is_shorter.notified();
            if backlog.lines.load(Ordering::Relaxed) < MOST_LINES || self.channel.is_closed() {
                return;
            }
            is_shorter.await;
        }
    }
}

/// The reading half.
#[derive(Debug)]
pub(crate) struct EventReader {
    events: UnboundedReceiver<TimedEvent>,
    backlog: Arc<Backlog>,
}

impl EventReader {
    /// The next event; none once there is no sender any more.
    pub(crate) async fn next(&mut self) -> Option<TimedEvent> {
        let timed = self.events.recv().await;
        if let Some(TimedEvent { event: Event::Log { .. }, .. }) = timed
            && self.backlog.lines.fetch_sub(1, Ordering::Relaxed) == MOST_LINES / 2
        {
            self.backlog.is_shorter.notify_waiters();
        }
        timed
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.events.close();
        self.backlog.is_shorter.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Stream;

    fn line() -> Event {
        let (component, line) = ("a".to_owned(), String::new());
        Event::Log { component, image: None, stream: Stream::Stdout, line }
    }

    #[tokio::test]
    async fn an_endless_log_waits_for_the_reader() {
        let (events, mut reader) = Events::with_reader();
        let writing = async {
            for _ in 0..MOST_LINES * 5 {
                events.wait_for_reader().await;
                events.send(line());
            }
            drop(events);
        };
        let reading = async {
            let (mut count, mut longest) = (0, 0);
            while reader.next().await.is_some() {
                count += 1;
                longest = longest.max(reader.events.len());
            }
            (count, longest)
        };
        let ((), (count, longest)) = tokio::join!(writing, reading);
        assert_eq!(count, MOST_LINES * 5);
        assert!(longest < MOST_LINES, "{longest}");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_reader_that_is_gone() {
        let (events, reader) = Events::with_reader();
        (0..MOST_LINES).for_each(|_| events.send(line()));
        let ((), ()) = tokio::join!(events.wait_for_reader(), async { drop(reader) });
        events.wait_for_reader().await;
    }
}
