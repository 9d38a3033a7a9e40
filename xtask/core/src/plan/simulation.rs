//! How long a build of everything would take with other workers: on paper, by the scheduler that
//! builds use.
//!
//! The jobs of one machine share their images. Machines share a registry: each builds one component
//! at a time, pulls what it lacks of the images that the component uses, and pushes what the
//! component adds to them. A machine's connection is its own, and the registry is as fast as all of
//! them together, so a real cluster is slower than this.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use crate::ids::{IdVec, TaskId};
use crate::plan::schedule::{Claim, Schedule, ScheduledTask};

/// The build of a component. In a list, each comes after those that it needs.
#[derive(Clone, Debug)]
pub struct Work {
    /// What must be built before.
    pub needs: Vec<TaskId>,
    /// Those of them whose images it uses.
    pub uses: Vec<TaskId>,
    /// How long the build takes, without transfers.
    pub takes: Duration,
    /// The size of its images in bytes, without that of the images that they are built from.
    pub bytes: u64,
}

/// Who works.
#[derive(Clone, Copy, Debug)]
pub enum Workers {
    /// Parallel jobs of one machine.
    Jobs(usize),
    /// Machines that share a registry.
    Machines {
        /// How many.
        count: usize,
        /// What each of them transfers in a second.
        bytes_per_second: u64,
    },
}

/// What a build of everything came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// From the start to the end of all.
    pub makespan: Duration,
    /// What was pulled and pushed.
    pub transferred: u64,
}

/// Builds everything.
pub fn simulate(work: &IdVec<TaskId, Work>, workers: Workers) -> Simulated {
    let (count, bytes_per_second) = match workers {
        Workers::Jobs(count) => (count.max(1), None),
        // One machine has all images.
        Workers::Machines { count, .. } if count <= 1 => (1, None),
        Workers::Machines { count, bytes_per_second } => (count, Some(bytes_per_second.max(1))),
    };
    let tasks = work.iter().map(|work| ScheduledTask {
        needs: work.needs.clone(),
        estimate: work.takes,
        claim: Claim::Job,
    });
    let mut schedule = Schedule::new(&tasks.collect(), count);
    let mut machines: Vec<BTreeSet<TaskId>> = vec![BTreeSet::new(); count];
    let mut free: BTreeSet<usize> = (0..count).collect();
    let mut running: BinaryHeap<Reverse<(Duration, TaskId, usize)>> = BinaryHeap::new();
    let mut simulated = Simulated { makespan: Duration::ZERO, transferred: 0 };
    loop {
        while let Some(task) = schedule.start() {
            let images =
                if bytes_per_second.is_some() { used(work, task) } else { BTreeSet::new() };
            let lacks = |machine: &usize| -> u64 {
                images.difference(&machines[*machine]).map(|image| work[*image].bytes).sum()
            };
            let machine = free.iter().copied().min_by_key(lacks).expect("a job is free");
            let bytes = bytes_per_second.map_or(0, |_| lacks(&machine) + work[task].bytes);
            free.remove(&machine);
            machines[machine].extend(images);
            machines[machine].insert(task);
            simulated.transferred += bytes;
            let transfer = transfer_time(bytes, bytes_per_second.unwrap_or(1));
            let end = simulated.makespan + work[task].takes + transfer;
            running.push(Reverse((end, task, machine)));
        }
        let Some(Reverse((end, task, machine))) = running.pop() else { return simulated };
        simulated.makespan = end;
        free.insert(machine);
        schedule.succeed(task);
    }
}

/// The images that a component's are built from, and those that they are built from.
fn used(work: &IdVec<TaskId, Work>, task: TaskId) -> BTreeSet<TaskId> {
    let mut found = BTreeSet::new();
    let mut pending = work[task].uses.clone();
    while let Some(image) = pending.pop() {
        if found.insert(image) {
            pending.extend(&work[image].uses);
        }
    }
    found
}

fn transfer_time(bytes: u64, bytes_per_second: u64) -> Duration {
    let millis = u128::from(bytes) * 1000 / u128::from(bytes_per_second);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Id;

    const MIB: u64 = 1 << 20;

    fn second(needs: &[usize]) -> Work {
        let needs: Vec<TaskId> = needs.iter().copied().map(TaskId::at).collect();
        Work { uses: needs.clone(), needs, takes: Duration::from_secs(1), bytes: MIB }
    }

    fn machines(count: usize) -> Workers {
        Workers::Machines { count, bytes_per_second: MIB }
    }

    fn seconds(work: &IdVec<TaskId, Work>, workers: Workers) -> (f64, u64) {
        let simulated = simulate(work, workers);
        (simulated.makespan.as_secs_f64(), simulated.transferred / MIB)
    }

    #[test]
    fn jobs_share_their_images_and_machines_transfer_them() {
        // A base and two images that are built from it.
        let fan: IdVec<_, _> = [second(&[]), second(&[0]), second(&[0])].into_iter().collect();
        assert_eq!(seconds(&fan, Workers::Jobs(1)), (3.0, 0));
        assert_eq!(seconds(&fan, Workers::Jobs(2)), (2.0, 0));
        assert_eq!(seconds(&fan, machines(1)), (3.0, 0));
        // The base is pushed, and pulled by the machine that did not build it.
        assert_eq!(seconds(&fan, machines(2)), (2.0 + 1.0 + 2.0, 4));
    }

    #[test]
    fn a_machine_builds_what_it_has_the_images_for() {
        let chains: IdVec<_, _> =
            [second(&[]), second(&[]), second(&[1]), second(&[0])].into_iter().collect();
        assert_eq!(seconds(&chains, machines(2)), (4.0, 4), "nothing is pulled");
    }

    #[test]
    fn what_an_image_is_built_from_comes_with_it_once() {
        // Three images, each from the last, and two that need the third.
        let work = [second(&[]), second(&[0]), second(&[1]), second(&[2]), second(&[2, 0])];
        let work: IdVec<_, _> = work.into_iter().collect();
        assert_eq!(seconds(&work, machines(2)).1, 5 + 3);
    }

    #[test]
    fn more_workers_never_beat_the_critical_path() {
        let work: IdVec<_, _> = (0..50_usize)
            .map(|it| second(if it == 0 { &[] } else { std::slice::from_ref(&0) }))
            .collect();
        for count in [1, 2, 7, 64] {
            let (time, _) = seconds(&work, Workers::Jobs(count));
            assert!(
                (time - (1.0 + f64::from(49_u32.div_ceil(u32::try_from(count).unwrap())))).abs()
                    < 1e-9
            );
        }
    }
}
