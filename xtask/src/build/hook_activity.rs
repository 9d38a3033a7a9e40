//! When hooks ran, so that `watch` can tell what they write from what people edit.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use xtask_core::ids::ComponentId;

/// How late the event of a change can arrive.
const LATE: Duration = Duration::from_millis(200);

/// The hooks of a round.
pub(crate) struct HookActivity {
    /// The components whose hooks left their folder alone when they ran last before this round.
    steady: BTreeSet<ComponentId>,
    hooks: RefCell<BTreeMap<ComponentId, Hooks>>,
}

/// The hooks of a component in this round.
#[derive(Default)]
struct Hooks {
    runs: Vec<Run>,
    /// How many of the runs came before the step was restarted: they say nothing about what the
    /// hooks do, because a save may have restarted it.
    before_restart: usize,
    /// Whether the folder was the same at the end as at the start, once all of them completed.
    is_same: Option<bool>,
}

struct Run {
    start: Instant,
    end: Option<Instant>,
    /// Whether something in the component's folder changed meanwhile, other than its outputs.
    has_changes: bool,
}

impl HookActivity {
    pub(crate) fn new(steady: BTreeSet<ComponentId>) -> Self {
        Self { steady, hooks: RefCell::default() }
    }

    pub(crate) fn started(&self, component: ComponentId) {
        let run = Run { start: Instant::now(), end: None, has_changes: false };
        self.hooks.borrow_mut().entry(component).or_default().runs.push(run);
    }

    /// Notes that the hook of a component that started last has ended.
    pub(crate) fn ended(&self, component: ComponentId) {
        let mut hooks = self.hooks.borrow_mut();
        if let Some(run) = hooks.entry(component).or_default().runs.last_mut() {
            run.end = Some(Instant::now());
        }
    }

    /// Notes that all hooks of a component ran, and whether its folder is the same as before.
    pub(crate) fn completed(&self, component: ComponentId, is_same: bool) {
        self.hooks.borrow_mut().entry(component).or_default().is_same = Some(is_same);
    }

    /// Notes that the step of a component begins again.
    pub(crate) fn restarted(&self, component: ComponentId) {
        if let Some(hooks) = self.hooks.borrow_mut().get_mut(&component) {
            hooks.before_restart = hooks.runs.len();
            hooks.is_same = None;
        }
    }

    /// The components whose hooks left their folder alone when they ran last. The same contents
    /// at the end are not enough: a hook that removes files and writes them again must not be
    /// terminated in between because of that.
    pub(crate) fn steady(&self) -> BTreeSet<ComponentId> {
        let mut steady = self.steady.clone();
        for (component, hooks) in self.hooks.borrow().iter() {
            let has_changes = hooks.runs[hooks.before_restart..].iter().any(|run| run.has_changes);
            if has_changes || hooks.is_same == Some(false) {
                steady.remove(component);
            } else if hooks.is_same == Some(true) {
                steady.insert(*component);
            }
        }
        steady
    }

    /// The components whose hooks may have run between two moments.
    pub(crate) fn running(&self, since: Instant, at: Instant) -> Vec<ComponentId> {
        let hooks = self.hooks.borrow();
        let running = hooks.iter().filter(|(_, it)| it.runs.iter().any(|it| it.covers(since, at)));
        running.map(|(component, _)| *component).collect()
    }

    /// Notes that something in a component's folder that is none of its outputs changed between
    /// two moments, and gives whether its hooks may have done it. Those that left the folder
    /// alone before this round have not done it now: where that is wrong, the next round knows.
    pub(crate) fn may_have_changed(
        &self,
        component: ComponentId,
        since: Instant,
        at: Instant,
    ) -> bool {
        let mut hooks = self.hooks.borrow_mut();
        let runs = hooks.get_mut(&component).into_iter().flat_map(|hooks| &mut hooks.runs);
        let mut is_running = false;
        for run in runs.filter(|run| run.covers(since, at)) {
            (run.has_changes, is_running) = (true, true);
        }
        is_running && !self.steady.contains(&component)
    }
}

impl Run {
    fn covers(&self, since: Instant, at: Instant) -> bool {
        self.start <= at && self.end.is_none_or(|end| since <= end + LATE)
    }
}

#[cfg(test)]
mod tests {
    use xtask_core::ids::Id;

    use super::*;

    fn component() -> ComponentId {
        ComponentId::at(0)
    }

    /// A run in which the component's folder changes or not.
    fn run(activity: &HookActivity, has_changes: bool) -> bool {
        activity.started(component());
        let now = Instant::now();
        let may_be_own = has_changes && activity.may_have_changed(component(), now, now);
        activity.ended(component());
        may_be_own
    }

    #[test]
    fn a_hook_is_steady_if_nothing_changed_while_it_ran() {
        for (has_changes, is_same, is_steady) in
            [(false, true, true), (true, true, false), (false, false, false), (true, false, false)]
        {
            let activity = HookActivity::new(BTreeSet::new());
            run(&activity, has_changes);
            activity.completed(component(), is_same);
            assert_eq!(activity.steady().contains(&component()), is_steady);
        }
    }

    #[test]
    fn what_a_hook_is_known_for_holds_until_the_next_round() {
        let activity = HookActivity::new([component()].into());
        assert!(!run(&activity, true), "it is steady");
        activity.completed(component(), true);
        assert!(!run(&activity, true));
        let activity = HookActivity::new(activity.steady());
        assert!(run(&activity, true), "it is not");
        activity.completed(component(), true);
        run(&activity, false);
        assert!(activity.steady().is_empty());
    }

    #[test]
    fn what_changed_before_a_restart_was_a_save() {
        let activity = HookActivity::new([component()].into());
        run(&activity, true);
        assert!(activity.steady().is_empty());
        activity.restarted(component());
        assert!(activity.steady().contains(&component()));
        run(&activity, false);
        activity.completed(component(), true);
        assert!(activity.steady().contains(&component()));
    }

    #[test]
    fn hooks_run_until_the_last_events_are_here() {
        let activity = HookActivity::new(BTreeSet::new());
        let before = Instant::now();
        run(&activity, false);
        let after = Instant::now() + LATE / 2;
        let start = activity.hooks.borrow()[&component()].runs[0].start;
        assert_eq!(activity.running(after, after), [component()]);
        assert_eq!(activity.running(before, after), [component()]);
        assert!(activity.running(after + LATE, after + LATE).is_empty());
        assert!(before == start || activity.running(before, before).is_empty());
    }
}
