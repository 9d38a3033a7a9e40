//! What a round and whoever watches it tell each other while it runs: which
//! components changed under its hands, and when whose hooks were at work.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// News of what a hook wrote may come so much later.
const LATE: Duration = Duration::from_millis(200);

/// Components are named by their place in the workspace.
pub(crate) struct Cancellation {
    outdated: watch::Sender<Outdated>,
    hooks: RefCell<BTreeMap<usize, Vec<Window>>>,
    /// The components whose hooks left their tree as it was when they ran last.
    steady: RefCell<BTreeSet<usize>>,
}

/// What is made of these components now would be made from what is no more.
#[derive(Debug, Default)]
pub(crate) struct Outdated {
    components: BTreeSet<usize>,
    /// Whether they cannot begin again, as the plan itself is of yesterday.
    is_final: bool,
}

struct Window {
    start: Instant,
    end: Option<Instant>,
}

impl Cancellation {
    /// Nothing has happened yet, but it is known whose hooks left their component's tree
    /// as it was when they ran last.
    pub(crate) fn new(steady: BTreeSet<usize>) -> Self {
        Self {
            outdated: watch::channel(Outdated::default()).0,
            hooks: RefCell::default(),
            steady: RefCell::new(steady),
        }
    }

    /// These components changed: their steps are to begin again.
    pub(crate) fn start_over(&self, components: &BTreeSet<usize>) {
        self.outdated.send_modify(|outdated| outdated.components.extend(components));
    }

    /// These components changed, and with them what there is to do: their steps end.
    pub(crate) fn give_up(&self, components: &BTreeSet<usize>) {
        self.outdated.send_modify(|outdated| {
            outdated.components.extend(components);
            outdated.is_final = true;
        });
    }

    /// The components whose steps are to begin again.
    pub(crate) fn to_start_over(&self) -> BTreeSet<usize> {
        let outdated = self.outdated.borrow();
        if outdated.is_final { BTreeSet::new() } else { outdated.components.clone() }
    }

    /// The steps of these components begin again.
    pub(crate) fn started_over(&self, components: &BTreeSet<usize>) {
        self.outdated.send_modify(|outdated| {
            outdated.components.retain(|component| !components.contains(component));
        });
    }

    /// Tells of every change of the above.
    pub(crate) fn news(&self) -> watch::Receiver<Outdated> {
        self.outdated.subscribe()
    }

    /// Whether a component changed since its step began.
    pub(crate) fn is_outdated(&self, component: usize) -> bool {
        self.outdated.borrow().components.contains(&component)
    }

    /// Waits until a component changes.
    pub(crate) async fn outdated(&self, component: usize) {
        let mut news = self.news();
        if news.wait_for(|outdated| outdated.components.contains(&component)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A hook of a component begins.
    pub(crate) fn hook_started(&self, component: usize) {
        let window = Window { start: Instant::now(), end: None };
        self.hooks.borrow_mut().entry(component).or_default().push(window);
    }

    /// The last hook of a component that began is over.
    pub(crate) fn hook_ended(&self, component: usize) {
        if let Some(window) = self.hooks.borrow_mut().entry(component).or_default().last_mut() {
            window.end = Some(Instant::now());
        }
    }

    /// All hooks of a component ran, and did or did not leave its tree as it was.
    pub(crate) fn hooks_done(&self, component: usize, is_steady: bool) {
        let mut steady = self.steady.borrow_mut();
        if is_steady {
            steady.insert(component);
        } else {
            steady.remove(&component);
        }
    }

    /// The components whose hooks left their tree as it was when they ran last.
    pub(crate) fn steady(&self) -> BTreeSet<usize> {
        self.steady.borrow().clone()
    }

    /// Whether a hook of a component may have done what was done to a path between two
    /// moments. One that did nothing of the kind the last time has not done it now, unless
    /// the path is one of its outputs: if that is wrong, it will be known once the hook
    /// comes to its end.
    pub(crate) fn may_be_its_own(
        &self,
        component: usize,
        is_output: bool,
        since: Instant,
        at: Instant,
    ) -> bool {
        let hooks = self.hooks.borrow();
        (is_output || !self.steady.borrow().contains(&component))
            && hooks.get(&component).into_iter().flatten().any(|window| window.covers(since, at))
    }

    /// Whether any hook may have done what was done between two moments.
    pub(crate) fn may_be_a_hooks(&self, since: Instant, at: Instant) -> bool {
        self.hooks.borrow().values().flatten().any(|window| window.covers(since, at))
    }
}

impl Window {
    fn covers(&self, since: Instant, at: Instant) -> bool {
        self.start <= at && self.end.is_none_or(|end| since <= end + LATE)
    }
}
