//! Why a step ends before its time: Ctrl-C, a failure elsewhere, or inputs that changed
//! while it ran.

use std::collections::BTreeSet;

use tokio::sync::watch;
use xtask_core::ids::ComponentId;

use crate::build::step_error::StepError;
use crate::system::signals::Interrupt;

/// Ends the steps of a round.
pub(crate) struct Cancellation {
    interrupt: Interrupt,
    is_stopped: watch::Sender<bool>,
    outdated: watch::Sender<Outdated>,
}

/// The components whose inputs changed under their running steps.
#[derive(Debug, Default)]
pub(crate) struct Outdated {
    components: BTreeSet<ComponentId>,
    /// Whether their steps cannot be restarted, as the plan itself is obsolete.
    is_plan_obsolete: bool,
}

impl Cancellation {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        let outdated = watch::channel(Outdated::default()).0;
        Self { interrupt, is_stopped: watch::channel(false).0, outdated }
    }

    /// Ends all steps.
    pub(crate) fn stop_all(&self) {
        self.is_stopped.send_replace(true);
    }

    /// Ends the steps of these components; they are restarted.
    pub(crate) fn restart(&self, components: &BTreeSet<ComponentId>) {
        self.outdated.send_modify(|outdated| outdated.components.extend(components));
    }

    /// Ends the steps of these components for good: the plan is obsolete.
    pub(crate) fn give_up(&self, components: &BTreeSet<ComponentId>) {
        self.outdated.send_modify(|outdated| {
            outdated.components.extend(components);
            outdated.is_plan_obsolete = true;
        });
    }

    /// The components whose steps are to be restarted.
    pub(crate) fn to_restart(&self) -> BTreeSet<ComponentId> {
        let outdated = self.outdated.borrow();
        if outdated.is_plan_obsolete { BTreeSet::new() } else { outdated.components.clone() }
    }

    /// Notes that the steps of these components were restarted.
    pub(crate) fn restarted(&self, components: &BTreeSet<ComponentId>) {
        self.outdated.send_modify(|outdated| {
            outdated.components.retain(|component| !components.contains(component));
        });
    }

    /// Changes whenever steps are to end or to be restarted because inputs changed.
    pub(crate) fn changes(&self) -> watch::Receiver<Outdated> {
        self.outdated.subscribe()
    }

    /// Whether a component's inputs changed since its step began.
    pub(crate) fn is_outdated(&self, component: ComponentId) -> bool {
        self.outdated.borrow().components.contains(&component)
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt.is_requested()
    }

    /// Waits until a component's step is to end before its time.
    pub(crate) async fn cancelled(&self, component: ComponentId) {
        let (mut stop, mut changes) = (self.is_stopped.subscribe(), self.changes());
        tokio::select! {
            () = self.interrupt.wait() => {}
            _ = stop.wait_for(|is_stopped| *is_stopped) => {}
            _ = changes.wait_for(|outdated| outdated.components.contains(&component)) => {}
        }
    }

    /// # Errors
    /// A component's step is to end before its time.
    pub(crate) fn check(&self, component: ComponentId) -> Result<(), StepError> {
        if *self.is_stopped.borrow() || self.is_interrupted() {
            return Err(StepError::Cancelled);
        }
        if self.is_outdated(component) {
            return Err(StepError::Outdated);
        }
        Ok(())
    }
}
