//! Waits for answers of the engine and of registries.
//!
//! An engine can accept a connection and never answer. So each wait is announced if it
//! lasts, and ends when the user presses Ctrl-C. Waits for the same thing that last at the
//! same time are announced once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::EngineError;
use crate::event::{Event, Events};
use crate::system::signals::Interrupt;

/// After so long it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Begins waits; its clones know of each other's announcements.
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

    /// A wait for one answer or more, described as in "waiting: for WHAT".
    pub(crate) fn begin(&self, what: impl Into<String>) -> Wait<'_> {
        Wait { waiting: self, what: what.into(), is_announced: false }
    }
}

/// A wait; what it announced may be announced again once it is over.
pub(crate) struct Wait<'a> {
    waiting: &'a Waiting,
    what: String,
    is_announced: bool,
}

impl Wait<'_> {
    /// Waits for an answer.
    pub(crate) async fn answer<T>(
        &mut self,
        answer: impl Future<Output = T>,
    ) -> Result<T, EngineError> {
        let Waiting { interrupt, patience, .. } = self.waiting;
        // The future of a build is large, and would be here twice.
        let mut answer = Box::pin(answer);
        tokio::select! {
            biased;
            () = interrupt.wait() => return Err(EngineError::Interrupted),
            answer = &mut answer => return Ok(answer),
            () = tokio::time::sleep(*patience), if !self.is_announced => {}
        }
        self.announce();
        tokio::select! {
            biased;
            () = self.waiting.interrupt.wait() => Err(EngineError::Interrupted),
            answer = &mut answer => Ok(answer),
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

    fn waiting(patience: Duration) -> (Waiting, UnboundedReceiver<Event>, watch::Sender<bool>) {
        let (sender, events) = unbounded_channel();
        let (stop, interrupt) = Interrupt::manual();
        let waiting = Waiting { patience, ..Waiting::new(&Events::new(sender), &interrupt) };
        (waiting, events, stop)
    }

    #[tokio::test]
    async fn waits_that_last_are_announced_once_and_end_at_an_interrupt() {
        let (waiting, mut events, stop) = waiting(Duration::ZERO);
        let wait = async |what| waiting.begin(what).answer(pending::<()>()).await;
        let interrupted = async {
            let mut said = Vec::new();
            while said.len() < 2 {
                if let Some(Event::WaitingFor { what }) = events.recv().await {
                    said.push(what);
                }
            }
            stop.send_replace(true);
            said
        };
        let (ended, other, same, said) =
            tokio::join!(wait("it"), wait("it"), wait("that"), interrupted);
        for ended in [ended, other, same] {
            assert!(matches!(ended, Err(EngineError::Interrupted)));
        }
        assert_eq!(said, ["it", "that"]);
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_quick_answer_is_not_announced_and_a_later_wait_is_again() {
        let (quick, mut events, _stop) = waiting(Duration::from_hours(1));
        assert_eq!(quick.begin("it").answer(ready(7)).await.unwrap(), 7);
        assert!(events.try_recv().is_err());
        let (waiting, mut events, _stop) = waiting(Duration::ZERO);
        for _ in 0..2 {
            let mut wait = waiting.begin("it");
            // The answer comes with the announcement, and the next one without.
            let announced = wait.answer(events.recv()).await.unwrap();
            assert!(matches!(announced, Some(Event::WaitingFor { .. })));
            let (sender, answer) = tokio::sync::oneshot::channel();
            let late = tokio::spawn(async move {
                tokio::task::yield_now().await;
                sender.send(())
            });
            wait.answer(answer).await.unwrap().unwrap();
            late.await.unwrap().unwrap();
            assert!(events.try_recv().is_err());
        }
    }
}
