//! Which task runs next.
//!
//! A task is ready the moment the last one that it needs is done. Of several that
//! are ready, the one with the longest way to the end goes first, by what tasks took
//! the last time: that is list scheduling by critical path, which is never more than
//! twice as long as the best schedule, and mostly as good. Nothing here waits or
//! measures; whoever runs the tasks says when one ended, and which are to run again.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

/// Something to do. Tasks are named by their place in a list in which each comes
/// after those that it needs.
#[derive(Clone, Debug)]
pub struct ScheduledTask {
    /// The places of the tasks that must be done before.
    pub needs: Vec<usize>,
    /// How long it is thought to take.
    pub estimate: Duration,
}

/// The state of a round's tasks.
#[derive(Debug)]
pub struct Schedule {
    jobs: usize,
    is_stopped: bool,
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    /// The longest way to the end, the task itself included.
    ways: Vec<Duration>,
    ready: BinaryHeap<(Duration, Reverse<usize>)>,
    states: Vec<TaskState>,
    running: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskState {
    /// For so many tasks; for none if it is ready.
    Waits(usize),
    Runs,
    Done,
    Failed,
    /// It needs one that failed.
    Lost,
}

impl Schedule {
    /// Nothing runs yet, and never more than `jobs` at a time.
    pub fn new(tasks: &[ScheduledTask], jobs: usize) -> Self {
        let mut dependents = vec![Vec::new(); tasks.len()];
        for (place, task) in tasks.iter().enumerate() {
            for needed in &task.needs {
                dependents[*needed].push(place);
            }
        }
        let mut ways = vec![Duration::ZERO; tasks.len()];
        for place in (0..tasks.len()).rev() {
            let after = dependents[place].iter().map(|dependent| ways[*dependent]).max();
            ways[place] = tasks[place].estimate + after.unwrap_or_default();
        }
        let mut schedule = Self {
            jobs: jobs.max(1),
            is_stopped: false,
            needs: tasks.iter().map(|task| task.needs.clone()).collect(),
            dependents,
            ways,
            ready: BinaryHeap::new(),
            states: vec![TaskState::Waits(0); tasks.len()],
            running: 0,
        };
        schedule.reset(&(0..tasks.len()).collect());
        schedule
    }

    /// The next task to start, if one is ready and may run.
    pub fn start(&mut self) -> Option<usize> {
        if self.is_stopped || self.running == self.jobs {
            return None;
        }
        let (_, Reverse(place)) = self.ready.pop()?;
        self.states[place] = TaskState::Runs;
        self.running += 1;
        Some(place)
    }

    /// Whether a task was started and has not ended.
    pub fn is_running(&self, place: usize) -> bool {
        self.states[place] == TaskState::Runs
    }

    /// A task that was started is done: others may be ready now.
    pub fn succeed(&mut self, place: usize) {
        self.running -= 1;
        self.states[place] = TaskState::Done;
        for dependent in self.dependents[place].clone() {
            if let TaskState::Waits(count) = &mut self.states[dependent] {
                *count -= 1;
                if *count == 0 {
                    self.ready.push((self.ways[dependent], Reverse(dependent)));
                }
            }
        }
    }

    /// A task that was started failed. Gives all that will not start because of it,
    /// in order.
    pub fn fail(&mut self, place: usize) -> Vec<usize> {
        self.running -= 1;
        self.states[place] = TaskState::Failed;
        let mut lost = Vec::new();
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            for dependent in &self.dependents[place] {
                if matches!(self.states[*dependent], TaskState::Waits(_)) {
                    self.states[*dependent] = TaskState::Lost;
                    lost.push(*dependent);
                    open.push(*dependent);
                }
            }
        }
        lost.sort_unstable();
        lost
    }

    /// These tasks are to run as if they never had. None of them may be running, and
    /// all that need one of them must be among them.
    pub fn reset(&mut self, tasks: &BTreeSet<usize>) {
        self.ready.retain(|(_, Reverse(place))| !tasks.contains(place));
        for place in tasks {
            let needed = self.needs[*place].iter().map(|needed| self.states[*needed]);
            let (mut waits_for, mut is_lost) = (0, false);
            for state in needed {
                waits_for += usize::from(state != TaskState::Done);
                is_lost |= matches!(state, TaskState::Failed | TaskState::Lost);
            }
            self.states[*place] =
                if is_lost { TaskState::Lost } else { TaskState::Waits(waits_for) };
            if self.states[*place] == TaskState::Waits(0) {
                self.ready.push((self.ways[*place], Reverse(*place)));
            }
        }
    }

    /// Nothing new starts.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }
}

/// The chain of tasks that took the longest, first to last, and how long that was.
pub fn critical_path(needs: &[Vec<usize>], took: &[Duration]) -> (Vec<usize>, Duration) {
    let mut ends = vec![Duration::ZERO; needs.len()];
    let mut before = vec![None; needs.len()];
    for place in 0..needs.len() {
        before[place] = needs[place].iter().copied().max_by_key(|needed| ends[*needed]);
        ends[place] = took[place] + before[place].map_or(Duration::ZERO, |place| ends[place]);
    }
    let last = (0..needs.len()).max_by_key(|place| ends[*place]);
    let mut path: Vec<usize> = std::iter::successors(last, |place| before[*place]).collect();
    path.reverse();
    (path, last.map_or(Duration::ZERO, |last| ends[last]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs tasks that take just as long as was thought; gives when each started and
    /// the end.
    fn simulate(tasks: &[ScheduledTask], jobs: usize) -> (Vec<Duration>, Duration) {
        let mut schedule = Schedule::new(tasks, jobs);
        let mut started = vec![Duration::MAX; tasks.len()];
        let mut running: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
        let mut now = Duration::ZERO;
        loop {
            while let Some(place) = schedule.start() {
                started[place] = now;
                running.push(Reverse((now + tasks[place].estimate, place)));
            }
            assert!(running.len() <= jobs);
            let Some(Reverse((end, place))) = running.pop() else { return (started, now) };
            now = end;
            schedule.succeed(place);
        }
    }

    fn bound(tasks: &[ScheduledTask], jobs: usize) -> (Duration, Duration) {
        let needs: Vec<Vec<usize>> = tasks.iter().map(|task| task.needs.clone()).collect();
        let took: Vec<Duration> = tasks.iter().map(|task| task.estimate).collect();
        let work = took.iter().sum::<Duration>() / u32::try_from(jobs).unwrap();
        (critical_path(&needs, &took).1, work)
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).unwrap() % end
        }
    }

    fn task(needs: Vec<usize>, random: &mut Random) -> ScheduledTask {
        let millis = 100 + u64::try_from(random.below(5000)).unwrap();
        ScheduledTask { needs, estimate: Duration::from_millis(millis) }
    }

    #[test]
    fn it_keeps_the_guarantee_of_list_scheduling_on_any_graph() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let count = 1 + random.below(60);
            let tasks: Vec<ScheduledTask> = (0..count)
                .map(|place| {
                    let mut needs: Vec<usize> = (0..random.below(4))
                        .filter(|_| place > 0)
                        .map(|_| random.below(place.max(1)))
                        .collect();
                    needs.sort_unstable();
                    needs.dedup();
                    task(needs, &mut random)
                })
                .collect();
            let jobs = 1 + random.below(8);
            let (started, end) = simulate(&tasks, jobs);
            for (place, task) in tasks.iter().enumerate() {
                for needed in &task.needs {
                    assert!(started[*needed] + tasks[*needed].estimate <= started[place]);
                }
            }
            let (path, work) = bound(&tasks, jobs);
            assert!(end >= path.max(work) && end <= path + work, "seed {seed}");
            assert_eq!(simulate(&tasks, jobs), (started, end), "seed {seed}: it is repeatable");
        }
    }

    #[test]
    fn it_is_near_the_bound_on_the_shapes_that_people_have() {
        let random = &mut Random(1);
        let mut fan = vec![task(vec![], random)];
        fan.extend((0..80).map(|_| task(vec![0], random)));
        let mut chains = vec![task(vec![], random)];
        for _ in 0..20 {
            chains.push(task(vec![0], random));
            for _ in 0..3 {
                chains.push(task(vec![chains.len() - 1], random));
            }
        }
        let mut layers: Vec<ScheduledTask> = (0..20).map(|_| task(vec![], random)).collect();
        for place in 20..120 {
            let below = place - place % 20 - 20;
            let mut needs = vec![below + random.below(20), below + random.below(20)];
            needs.dedup();
            layers.push(task(needs, random));
        }
        for (name, tasks) in [("a fan", fan), ("chains on a base", chains), ("layers", layers)] {
            for jobs in [2, 4, 8] {
                let (_, end) = simulate(&tasks, jobs);
                let (path, work) = bound(&tasks, jobs);
                // Before the base is there, nothing else can run.
                let base = if name == "layers" { Duration::ZERO } else { tasks[0].estimate };
                let bound = path.max(work + base);
                assert!(
                    end.as_secs_f64() <= bound.as_secs_f64() * 1.05,
                    "{name} with {jobs}: {end:?} for {bound:?}"
                );
            }
        }
    }

    #[test]
    fn ten_thousand_components_are_no_trouble() {
        let random = &mut Random(1);
        let mut tasks = Vec::new();
        for component in 0..10_000 {
            let mut needs: Vec<usize> = (0..3)
                .filter(|_| component > 0)
                .map(|_| random.below(component.max(1)) * 3 + 2)
                .collect();
            needs.sort_unstable();
            needs.dedup();
            tasks.push(task(needs, random));
            tasks.push(task(vec![component * 3], random));
            tasks.push(task(vec![component * 3 + 1], random));
        }
        let (started, _) = simulate(&tasks, 16);
        assert!(started.iter().all(|started| *started < Duration::MAX));
    }

    #[test]
    fn what_needs_a_failure_never_starts_and_the_rest_does() {
        let second = |needs| ScheduledTask { needs, estimate: Duration::from_secs(1) };
        let tasks = [second(vec![]), second(vec![0]), second(vec![1]), second(vec![])];
        let mut schedule = Schedule::new(&tasks, 1);
        assert_eq!(schedule.start(), Some(0));
        assert_eq!(schedule.start(), None, "one at a time");
        assert_eq!(schedule.fail(0), [1, 2]);
        assert_eq!(schedule.start(), Some(3));
        schedule.succeed(3);
        assert_eq!(schedule.start(), None);
    }

    #[test]
    fn what_is_reset_runs_again_and_the_rest_does_not() {
        let second = |needs| ScheduledTask { needs, estimate: Duration::from_secs(1) };
        // 0 ← 1 ← 2, and 3 by itself; 4 needs all.
        let tasks =
            [second(vec![]), second(vec![0]), second(vec![1]), second(vec![]), second(vec![2, 3])];
        let mut schedule = Schedule::new(&tasks, 2);
        let started = |schedule: &mut Schedule| -> Vec<usize> {
            std::iter::from_fn(|| schedule.start()).collect()
        };
        assert_eq!(started(&mut schedule), [0, 3]);
        schedule.succeed(0);
        assert_eq!(started(&mut schedule), [1]);
        assert_eq!(schedule.fail(1), [2, 4]);
        schedule.reset(&[1, 2, 4].into());
        assert!(schedule.is_running(3));
        assert_eq!(started(&mut schedule), [1], "3 goes on, and 0 is done");
        schedule.succeed(1);
        assert_eq!(started(&mut schedule), [2]);
        schedule.fail(2);
        schedule.reset(&[4].into());
        schedule.succeed(3);
        assert!(started(&mut schedule).is_empty(), "4 still needs what failed");
        schedule.reset(&[0, 1, 2, 4].into());
        for place in [0, 1, 2, 4] {
            assert_eq!(started(&mut schedule), [place]);
            schedule.succeed(place);
        }
    }
}
