//! Decides which task runs next.
//!
//! A task is ready as soon as all tasks that it needs are done. Of the ready tasks, the one
//! at the start of the longest remaining path goes first, estimated from previous build
//! times. This is list scheduling by critical path: it takes at most twice as long as an
//! optimal schedule, and is usually close to it. This module neither waits nor measures time:
//! the caller reports which tasks ended and which must run again.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use crate::ids::{IdVec, TaskId};

/// A task to schedule. In a list of tasks, each comes after those that it needs.
#[derive(Clone, Debug)]
pub struct ScheduledTask {
    /// The tasks that must be done before.
    pub needs: Vec<TaskId>,
    /// The estimated duration.
    pub estimate: Duration,
    /// What it needs to run.
    pub claim: Claim,
}

/// What a task needs to run, besides the tasks before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// One of the parallel jobs, in its turn.
    Job,
    /// The next job that is free: it takes almost no time, and ends what was begun.
    NextJob,
    /// Nothing: it ends at once, so that nothing else starts before that.
    Nothing,
}

/// The states of all tasks of a round.
#[derive(Debug)]
pub struct Schedule {
    jobs: usize,
    is_stopped: bool,
    needs: IdVec<TaskId, Vec<TaskId>>,
    dependents: IdVec<TaskId, Vec<TaskId>>,
    /// The duration of the longest path that starts with each task.
    path_lengths: IdVec<TaskId, Duration>,
    ready: BinaryHeap<(Duration, Reverse<TaskId>)>,
    claims: IdVec<TaskId, Claim>,
    ready_without_job: Vec<TaskId>,
    states: IdVec<TaskId, TaskState>,
    running: usize,
    running_without_job: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskState {
    /// The number of unfinished tasks that it needs; 0 if it is ready.
    Waiting(usize),
    Running,
    Done,
    Failed,
    /// A task that it needs, directly or indirectly, failed.
    Blocked,
}

impl Schedule {
    /// A schedule in which no task is running, for at most `jobs` parallel tasks.
    pub fn new(tasks: &IdVec<TaskId, ScheduledTask>, jobs: usize) -> Self {
        let mut dependents: IdVec<_, _> = tasks.iter().map(|_| Vec::new()).collect();
        for (id, task) in tasks.enumerate() {
            for needed in &task.needs {
                dependents[*needed].push(id);
            }
        }
        let mut path_lengths: IdVec<_, _> = tasks.iter().map(|task| task.estimate).collect();
        for id in tasks.ids().rev() {
            let after = dependents[id].iter().map(|dependent| path_lengths[*dependent]).max();
            path_lengths[id] += after.unwrap_or_default();
        }
        let mut schedule = Self {
            jobs: jobs.max(1),
            is_stopped: false,
            needs: tasks.iter().map(|task| task.needs.clone()).collect(),
            dependents,
            path_lengths,
            ready: BinaryHeap::new(),
            claims: tasks.iter().map(|task| task.claim).collect(),
            ready_without_job: Vec::new(),
            states: tasks.iter().map(|_| TaskState::Waiting(0)).collect(),
            running: 0,
            running_without_job: 0,
        };
        schedule.reset(&tasks.ids().collect());
        schedule
    }

    /// Starts the next task, if one is ready and, unless it takes no job, fewer than `jobs`
    /// are running.
    pub fn start(&mut self) -> Option<TaskId> {
        if self.is_stopped {
            return None;
        }
        let task = if let Some(task) = self.ready_without_job.pop() {
            self.running_without_job += 1;
            task
        } else if self.running == self.jobs || self.running_without_job > 0 {
            return None;
        } else {
            let (_, Reverse(task)) = self.ready.pop()?;
            self.running += 1;
            task
        };
        self.states[task] = TaskState::Running;
        Some(task)
    }

    fn make_ready(&mut self, task: TaskId) {
        match self.claims[task] {
            Claim::Job => self.ready.push((self.path_lengths[task], Reverse(task))),
            Claim::NextJob => self.ready.push((Duration::MAX, Reverse(task))),
            Claim::Nothing => self.ready_without_job.push(task),
        }
    }

    fn end(&mut self, task: TaskId, state: TaskState) {
        match self.claims[task] {
            Claim::Nothing => self.running_without_job -= 1,
            Claim::Job | Claim::NextJob => self.running -= 1,
        }
        self.states[task] = state;
    }

    /// Whether a task was started and has not ended.
    pub fn is_running(&self, task: TaskId) -> bool {
        self.states[task] == TaskState::Running
    }

    /// Marks a running task as done.
    pub fn succeed(&mut self, task: TaskId) {
        self.end(task, TaskState::Done);
        for dependent in self.dependents[task].clone() {
            if let TaskState::Waiting(count) = &mut self.states[dependent] {
                *count -= 1;
                if *count == 0 {
                    self.make_ready(dependent);
                }
            }
        }
    }

    /// Marks a running task as failed. Returns all tasks that are blocked by it, in order.
    pub fn fail(&mut self, task: TaskId) -> Vec<TaskId> {
        self.end(task, TaskState::Failed);
        let mut blocked = Vec::new();
        let mut pending = vec![task];
        while let Some(task) = pending.pop() {
            for dependent in &self.dependents[task] {
                if matches!(self.states[*dependent], TaskState::Waiting(_)) {
                    self.states[*dependent] = TaskState::Blocked;
                    blocked.push(*dependent);
                    pending.push(*dependent);
                }
            }
        }
        blocked.sort_unstable();
        blocked
    }

    /// Resets tasks, so that they run again. None of them may be running, and all tasks that
    /// need one of them must be included.
    pub fn reset(&mut self, tasks: &BTreeSet<TaskId>) {
        self.ready.retain(|(_, Reverse(task))| !tasks.contains(task));
        self.ready_without_job.retain(|task| !tasks.contains(task));
        for task in tasks {
            let needed = self.needs[*task].iter().map(|needed| self.states[*needed]);
            let (mut unmet, mut is_blocked) = (0, false);
            for state in needed {
                unmet += usize::from(state != TaskState::Done);
                is_blocked |= matches!(state, TaskState::Failed | TaskState::Blocked);
            }
            self.states[*task] =
                if is_blocked { TaskState::Blocked } else { TaskState::Waiting(unmet) };
            if self.states[*task] == TaskState::Waiting(0) {
                self.make_ready(*task);
            }
        }
    }

    /// Starts no more tasks.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }
}

/// The chain of dependent tasks that took the longest in total, from first to last, and its
/// duration.
pub fn critical_path(
    needs: &IdVec<TaskId, Vec<TaskId>>,
    took: &IdVec<TaskId, Duration>,
) -> (Vec<TaskId>, Duration) {
    let (mut ends, mut before) = (IdVec::new(), IdVec::new());
    for (task, needs) in needs.enumerate() {
        let last = needs.iter().copied().max_by_key(|needed| ends[*needed]);
        ends.push(took[task] + last.map_or(Duration::ZERO, |last| ends[last]));
        before.push(last);
    }
    let last = needs.ids().max_by_key(|task| ends[*task]);
    let mut path: Vec<TaskId> = std::iter::successors(last, |task| before[*task]).collect();
    path.reverse();
    (path, last.map_or(Duration::ZERO, |last| ends[last]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Id;

    type Tasks = IdVec<TaskId, ScheduledTask>;

    fn at(place: usize) -> TaskId {
        TaskId::at(place)
    }

    /// Runs tasks that take exactly as long as estimated. Returns the start of each and the
    /// end of the last.
    fn simulate(tasks: &Tasks, jobs: usize) -> (IdVec<TaskId, Duration>, Duration) {
        let mut schedule = Schedule::new(tasks, jobs);
        let mut started: IdVec<_, _> = tasks.iter().map(|_| Duration::MAX).collect();
        let mut running: BinaryHeap<Reverse<(Duration, TaskId)>> = BinaryHeap::new();
        let mut now = Duration::ZERO;
        loop {
            while let Some(task) = schedule.start() {
                started[task] = now;
                running.push(Reverse((now + tasks[task].estimate, task)));
            }
            assert!(running.len() <= jobs);
            let Some(Reverse((end, task))) = running.pop() else { return (started, now) };
            now = end;
            schedule.succeed(task);
        }
    }

    fn bound(tasks: &Tasks, jobs: usize) -> (Duration, Duration) {
        let needs = tasks.iter().map(|task| task.needs.clone()).collect();
        let took: IdVec<_, _> = tasks.iter().map(|task| task.estimate).collect();
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
        let needs = needs.into_iter().map(at).collect();
        ScheduledTask { needs, estimate: Duration::from_millis(millis), claim: Claim::Job }
    }

    fn second(needs: &[usize]) -> ScheduledTask {
        let needs = needs.iter().copied().map(at).collect();
        ScheduledTask { needs, estimate: Duration::from_secs(1), claim: Claim::Job }
    }

    #[test]
    fn the_bound_of_list_scheduling_holds_on_random_graphs() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let count = 1 + random.below(60);
            let tasks: Tasks = (0..count)
                .map(|index| {
                    let mut needs: Vec<usize> = (0..random.below(4))
                        .filter(|_| index > 0)
                        .map(|_| random.below(index.max(1)))
                        .collect();
                    needs.sort_unstable();
                    needs.dedup();
                    task(needs, &mut random)
                })
                .collect();
            let jobs = 1 + random.below(8);
            let (started, end) = simulate(&tasks, jobs);
            for (id, task) in tasks.enumerate() {
                for needed in &task.needs {
                    assert!(started[*needed] + tasks[*needed].estimate <= started[id]);
                }
            }
            let (path, work) = bound(&tasks, jobs);
            assert!(end >= path.max(work) && end <= path + work, "seed {seed}");
            assert_eq!(simulate(&tasks, jobs), (started, end), "seed {seed} is repeatable");
        }
    }

    #[test]
    fn typical_graphs_are_scheduled_close_to_the_lower_bound() {
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
        for index in 20..120 {
            let below = index - index % 20 - 20;
            let mut needs = vec![below + random.below(20), below + random.below(20)];
            needs.dedup();
            layers.push(task(needs, random));
        }
        for (name, tasks) in [("a fan", fan), ("chains on a base", chains), ("layers", layers)] {
            let tasks = Tasks::from_iter(tasks);
            for jobs in [2, 4, 8] {
                let (_, end) = simulate(&tasks, jobs);
                let (path, work) = bound(&tasks, jobs);
                // Nothing else can run before the base is done.
                let base = if name == "layers" { Duration::ZERO } else { tasks[at(0)].estimate };
                let bound = path.max(work + base);
                assert!(
                    end.as_secs_f64() <= bound.as_secs_f64() * 1.05,
                    "{name} with {jobs}: {end:?} for {bound:?}"
                );
            }
        }
    }

    #[test]
    fn ten_thousand_components_are_scheduled() {
        let random = &mut Random(1);
        let mut tasks = Tasks::new();
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
    fn tasks_that_need_a_failed_task_never_start_and_others_do() {
        let tasks = [second(&[]), second(&[0]), second(&[1]), second(&[])];
        let mut schedule = Schedule::new(&Tasks::from_iter(tasks), 1);
        assert_eq!(schedule.start(), Some(at(0)));
        assert_eq!(schedule.start(), None, "one at a time");
        assert_eq!(schedule.fail(at(0)), [1, 2].map(at));
        assert_eq!(schedule.start(), Some(at(3)));
        schedule.succeed(at(3));
        assert_eq!(schedule.start(), None);
    }

    #[test]
    fn only_reset_tasks_run_again() {
        // 0 ← 1 ← 2, 3 is independent, and 4 needs 2 and 3.
        let tasks = [second(&[]), second(&[0]), second(&[1]), second(&[]), second(&[2, 3])];
        let mut schedule = Schedule::new(&Tasks::from_iter(tasks), 2);
        let started = |schedule: &mut Schedule| -> Vec<TaskId> {
            std::iter::from_fn(|| schedule.start()).collect()
        };
        assert_eq!(started(&mut schedule), [0, 3].map(at));
        schedule.succeed(at(0));
        assert_eq!(started(&mut schedule), [at(1)]);
        assert_eq!(schedule.fail(at(1)), [2, 4].map(at));
        schedule.reset(&[1, 2, 4].map(at).into());
        assert!(schedule.is_running(at(3)));
        assert_eq!(started(&mut schedule), [at(1)], "3 is still running, and 0 is done");
        schedule.succeed(at(1));
        assert_eq!(started(&mut schedule), [at(2)]);
        schedule.fail(at(2));
        schedule.reset(&[at(4)].into());
        schedule.succeed(at(3));
        assert!(started(&mut schedule).is_empty(), "4 needs 2, which failed");
        schedule.reset(&[0, 1, 2, 4].map(at).into());
        for task in [0, 1, 2, 4].map(at) {
            assert_eq!(started(&mut schedule), [task]);
            schedule.succeed(task);
        }
    }

    #[test]
    fn a_task_that_takes_no_job_starts_while_all_jobs_are_taken() {
        let task = |needs: &[usize], claim| ScheduledTask {
            needs: needs.iter().copied().map(at).collect(),
            estimate: Duration::from_secs(1),
            claim,
        };
        let (job, nothing) = (Claim::Job, Claim::Nothing);
        let tasks = [task(&[], job), task(&[], job), task(&[0], nothing), task(&[2], job)];
        let mut schedule = Schedule::new(&tasks.into_iter().collect(), 1);
        assert_eq!(schedule.start(), Some(at(0)));
        assert_eq!(schedule.start(), None);
        schedule.succeed(at(0));
        assert_eq!(schedule.start(), Some(at(2)), "it takes no job");
        assert_eq!(schedule.start(), None, "that ends at once");
        schedule.succeed(at(2));
        assert_eq!(schedule.start(), Some(at(1)));
        assert_eq!(schedule.start(), None, "the job is taken");
        schedule.succeed(at(1));
        assert_eq!(schedule.start(), Some(at(3)));
    }

    #[test]
    fn what_was_begun_is_ended_first() {
        let task = |needs: &[usize], claim, seconds| ScheduledTask {
            needs: needs.iter().copied().map(at).collect(),
            estimate: Duration::from_secs(seconds),
            claim,
        };
        let tasks =
            [task(&[], Claim::Job, 9), task(&[], Claim::Job, 5), task(&[0], Claim::NextJob, 0)];
        let mut schedule = Schedule::new(&tasks.into_iter().collect(), 1);
        assert_eq!(schedule.start(), Some(at(0)));
        schedule.succeed(at(0));
        assert_eq!(schedule.start(), Some(at(2)));
    }
}
