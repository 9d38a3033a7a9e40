//! Which task runs next.
//!
//! A task is ready the moment the last one that it needs is done. Of several that
//! are ready, the one with the longest way to the end goes first, by what tasks took
//! the last time: that is list scheduling by critical path, which is never more than
//! twice as long as the best schedule, and mostly as good. Nothing here waits or
//! measures; whoever runs the tasks says when one ended.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Something to do. Tasks are named by their place in a list in which each comes
/// after those that it needs.
#[derive(Clone, Debug)]
pub struct Task {
    /// The places of the tasks that must be done before.
    pub needs: Vec<usize>,
    /// How long it is thought to take.
    pub estimate: Duration,
}

/// The state of a round's tasks.
#[derive(Debug)]
pub struct Schedule {
    jobs: usize,
    running: usize,
    is_stopped: bool,
    /// How many tasks each one still waits for.
    waits_for: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    /// The longest way to the end, the task itself included.
    ways: Vec<Duration>,
    ready: BinaryHeap<(Duration, Reverse<usize>)>,
    is_lost: Vec<bool>,
}

impl Schedule {
    /// Nothing runs yet, and never more than `jobs` at a time.
    pub fn new(tasks: &[Task], jobs: usize) -> Self {
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
        let waits_for: Vec<usize> = tasks.iter().map(|task| task.needs.len()).collect();
        let free = (0..tasks.len()).filter(|place| waits_for[*place] == 0);
        let ready = free.map(|place| (ways[place], Reverse(place))).collect();
        let is_lost = vec![false; tasks.len()];
        let jobs = jobs.max(1);
        Self { jobs, running: 0, is_stopped: false, waits_for, dependents, ways, ready, is_lost }
    }

    /// The next task to start, if one is ready and may run.
    pub fn start(&mut self) -> Option<usize> {
        if self.is_stopped || self.running == self.jobs {
            return None;
        }
        let (_, Reverse(place)) = self.ready.pop()?;
        self.running += 1;
        Some(place)
    }

    /// A task that was started is done: others may be ready now.
    pub fn succeed(&mut self, place: usize) {
        self.running -= 1;
        for dependent in self.dependents[place].clone() {
            self.waits_for[dependent] -= 1;
            if self.waits_for[dependent] == 0 && !self.is_lost[dependent] {
                self.ready.push((self.ways[dependent], Reverse(dependent)));
            }
        }
    }

    /// A task that was started failed. Gives all that will never start because of
    /// it, in order.
    pub fn fail(&mut self, place: usize) -> Vec<usize> {
        self.running -= 1;
        let mut lost = Vec::new();
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            for dependent in &self.dependents[place] {
                if !std::mem::replace(&mut self.is_lost[*dependent], true) {
                    lost.push(*dependent);
                    open.push(*dependent);
                }
            }
        }
        lost.sort_unstable();
        lost
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
    fn simulate(tasks: &[Task], jobs: usize) -> (Vec<Duration>, Duration) {
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

    fn bound(tasks: &[Task], jobs: usize) -> (Duration, Duration) {
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

    fn task(needs: Vec<usize>, random: &mut Random) -> Task {
        let millis = 100 + u64::try_from(random.below(5000)).unwrap();
        Task { needs, estimate: Duration::from_millis(millis) }
    }

    #[test]
    fn it_keeps_the_guarantee_of_list_scheduling_on_any_graph() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let count = 1 + random.below(60);
            let tasks: Vec<Task> = (0..count)
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
        let mut layers: Vec<Task> = (0..20).map(|_| task(vec![], random)).collect();
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
    fn what_needs_a_failure_never_starts_and_the_rest_does() {
        let second = |needs| Task { needs, estimate: Duration::from_secs(1) };
        let tasks = [second(vec![]), second(vec![0]), second(vec![1]), second(vec![])];
        let mut schedule = Schedule::new(&tasks, 1);
        assert_eq!(schedule.start(), Some(0));
        assert_eq!(schedule.start(), None, "one at a time");
        assert_eq!(schedule.fail(0), [1, 2]);
        assert_eq!(schedule.start(), Some(3));
        schedule.succeed(3);
        assert_eq!(schedule.start(), None);
    }
}
