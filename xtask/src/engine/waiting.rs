//! Waits for responses of the engine, registries and credential helpers.
//!
//! An engine can accept a connection and never respond. So a long wait is announced, and every
//! wait ends at Ctrl-C. Concurrent waits for the same thing are announced once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::error::EngineError;
use crate::event::Event;
use crate::event_channel::Events;
use crate::system::signals::Interrupt;

/// How long a wait lasts before it is announced.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts waits. Clones share which waits are announced.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    events: Events,
    interrupt: Interrupt,
    announced: Arc<Mutex<BTreeSet<String>>>,
    patience: Duration,
}

impl Waiting {
    pub(crate) fn new(events: &Events, interrupt: &Interrupt) -> Self {
        let (events, interrupt) = (events.clone(), interrupt.clone());
        Self { events, interrupt, announced: Arc::default(), patience: PATIENCE }
    }

    /// A wait that is announced as "waiting: for WHAT".
    pub(crate) fn begin(&self, what: impl Into<String>) -> Wait<'_> {
        Wait { waiting: self, what: what.into(), is_announced: false }
    }
}

/// A wait for one or more futures, announced at most once. Dropping it allows another
/// announcement.
pub(crate) struct Wait<'a> {
    waiting: &'a Waiting,
    what: String,
    is_announced: bool,
}

impl Wait<'_> {
    /// Waits until a future completes, or for Ctrl-C.
    pub(crate) async fn until<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, EngineError> {
        let Waiting { interrupt, patience, .. } = self.waiting;
        // Boxed, as a build's future is large and would be part of this one twice.
        let mut future = Box::pin(future);
        tokio::select! {
            biased;
            () = interrupt.wait() => return Err(EngineError::Interrupted),
            output = &mut future => return Ok(output),
            () = tokio::time::sleep(*patience), if !self.is_announced => {}
        }
        self.announce();
        tokio::select! {
            biased;
            () = self.waiting.interrupt.wait() => Err(EngineError::Interrupted),
            output = &mut future => Ok(output),
        }
    }

    fn announce(&mut self) {
        let mut announced = self.waiting.announced.lock().unwrap_or_else(PoisonError::into_inner);
        if announced.insert(self.what.clone()) {
            self.is_announced = true;
            self.waiting.events.send(Event::WaitingFor { what: self.what.clone() });
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.is_announced {
            let announced = &self.waiting.announced;
            announced.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::sync::watch;

    use super::*;
    use crate::event_channel::TimedEvent;

    fn waiting(
        patience: Duration,
    ) -> (Waiting, UnboundedReceiver<TimedEvent>, watch::Sender<bool>) {
        let (sender, events) = unbounded_channel();
        let (stop, interrupt) = Interrupt::manual();
        let waiting = Waiting { patience, ..Waiting::new(&Events::new(sender), &interrupt) };
        (waiting, events, stop)
    }

    #[tokio::test]
    async fn long_waits_are_announced_once_and_end_at_an_interrupt() {
        let (waiting, mut events, stop) = waiting(Duration::ZERO);
        let wait = async |what| waiting.begin(what).until(pending::<()>()).await;
        let interrupted = async {
            let mut announced = Vec::new();
            while announced.len() < 2 {
                if let Some(TimedEvent { event: Event::WaitingFor { what }, .. }) =
                    events.recv().await
                {
                    announced.push(what);
                }
            }
            stop.send_replace(true);
            announced
        };
        let (first, second, third, announced) =
            tokio::join!(wait("it"), wait("it"), wait("that"), interrupted);
        for result in [first, second, third] {
            assert!(matches!(result, Err(EngineError::Interrupted)));
        }
        assert_eq!(announced, ["it", "that"]);
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_short_wait_is_not_announced_and_a_later_wait_is_announced_again() {
        let (quick, mut events, _stop) = waiting(Duration::from_hours(1));
        assert_eq!(quick.begin("it").until(ready(7)).await.unwrap(), 7);
        assert!(events.try_recv().is_err());
        let (waiting, mut events, _stop) = waiting(Duration::ZERO);
        for _ in 0..2 {
            let mut wait = waiting.begin("it");
            // The first future completes with the announcement, the second without another.
            let announced = wait.until(events.recv()).await.unwrap().unwrap();
            assert!(matches!(announced.event, Event::WaitingFor { .. }));
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let late = tokio::spawn(async move {
                tokio::task::yield_now().await;
                sender.send(())
            });
            wait.until(receiver).await.unwrap().unwrap();
            late.await.unwrap().unwrap();
            assert!(events.try_recv().is_err());
        }
    }
}
