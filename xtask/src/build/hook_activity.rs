//! When hooks ran, so that `watch` can tell what they write from what people edit.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use xtask_core::ids::ComponentId;

/// How late the event of a change can arrive.
const LATE: Duration = Duration::from_millis(200);

/// The hooks of a round.
pub(crate) struct HookActivity {
    runs: RefCell<BTreeMap<ComponentId, Vec<Run>>>,
    /// The components whose hooks left their folder unchanged when they ran last.
    steady: RefCell<BTreeSet<ComponentId>>,
}

struct Run {
    start: Instant,
    end: Option<Instant>,
}

impl HookActivity {
    pub(crate) fn new(steady: BTreeSet<ComponentId>) -> Self {
        Self { runs: RefCell::default(), steady: RefCell::new(steady) }
    }

    pub(crate) fn started(&self, component: ComponentId) {
        let run = Run { start: Instant::now(), end: None };
        self.runs.borrow_mut().entry(component).or_default().push(run);
    }

    /// Notes that the hook of a component that started last has ended.
    pub(crate) fn ended(&self, component: ComponentId) {
        if let Some(run) = self.runs.borrow_mut().entry(component).or_default().last_mut() {
            run.end = Some(Instant::now());
        }
    }

    /// Notes that all hooks of a component ran, and whether they left its folder unchanged.
    pub(crate) fn completed(&self, component: ComponentId, is_steady: bool) {
        let mut steady = self.steady.borrow_mut();
        if is_steady {
            steady.insert(component);
        } else {
            steady.remove(&component);
        }
    }

    /// The components whose hooks left their folder unchanged when they ran last.
    pub(crate) fn steady(&self) -> BTreeSet<ComponentId> {
        self.steady.borrow().clone()
    }

    /// Whether a hook of a component may have changed a path between two moments. One that
    /// changed nothing the last time has not done it now, unless the path is one of its
    /// outputs: where that is wrong, the end of the hook shows it.
    pub(crate) fn may_have_changed(
        &self,
        component: ComponentId,
        is_output: bool,
        since: Instant,
        at: Instant,
    ) -> bool {
        let runs = self.runs.borrow();
        (is_output || !self.steady.borrow().contains(&component))
            && runs.get(&component).into_iter().flatten().any(|run| run.covers(since, at))
    }
}

impl Run {
    fn covers(&self, since: Instant, at: Instant) -> bool {
        self.start <= at && self.end.is_none_or(|end| since <= end + LATE)
    }
}
