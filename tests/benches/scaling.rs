//! How the build of a large tree would scale, on paper: by the simulation of
//! `graph --simulate`, on a tree that is made up.
//!
//!     cargo bench --profile dev -p tests --bench scaling
//!     cargo bench --profile dev -p tests --bench scaling -- 2000
//!
//! A hundredth of the images are bases, of which some are built from others; every other
//! image is built from one of them, and one in three uses a second image besides. Half of all
//! builds take less than half a minute, and few take many minutes; an image adds 10 to 200 MiB to
//! what it is built from.

use std::process::ExitCode;
use std::time::Duration;

use fastrand::Rng;
use xtask_core::ids::{Id, IdVec, TaskId};
use xtask_core::plan::schedule::critical_path;
use xtask_core::plan::simulation::{Work, Workers, simulate};

const COUNTS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// About a gigabit a second.
const BYTES_PER_SECOND: u64 = 100 << 20;

fn main() -> ExitCode {
    let Some(arguments) = tests::bench_arguments() else { return ExitCode::SUCCESS };
    let components: usize =
        arguments.first().map_or(2000, |text| text.parse().expect("a number of components"));
    let work = tree(components, &mut Rng::with_seed(1));
    let needs = work.iter().map(|work| work.needs.clone()).collect();
    let takes: IdVec<TaskId, Duration> = work.iter().map(|work| work.takes).collect();
    let (path, critical) = critical_path(&needs, &takes);
    let bytes: u64 = work.iter().map(|work| work.bytes).sum();
    let all: Duration = takes.iter().sum();
    println!(
        "{components} components, {} of work, {} GiB of images; critical path {} of {} components\n",
        time(all),
        bytes >> 30,
        time(critical),
        path.len()
    );
    println!("| workers | jobs of one machine | speedup | machines | speedup | transferred |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for count in COUNTS {
        let jobs = simulate(&work, Workers::Jobs(count)).makespan;
        let machines = Workers::Machines { count, bytes_per_second: BYTES_PER_SECOND };
        let machines = simulate(&work, machines);
        println!(
            "| {count} | {} | {:.1} | {} | {:.1} | {} GiB |",
            time(jobs),
            all.div_duration_f64(jobs),
            time(machines.makespan),
            all.div_duration_f64(machines.makespan),
            machines.transferred >> 30
        );
    }
    ExitCode::SUCCESS
}

fn tree(components: usize, random: &mut Rng) -> IdVec<TaskId, Work> {
    let bases = (components / 100).max(1);
    let component = |index: usize| {
        let mut uses = Vec::new();
        if index > 0 {
            uses.push(TaskId::at(random.usize(..index.min(bases))));
            if random.u8(..3) == 0 {
                uses.push(TaskId::at(random.usize(..index)));
            }
        }
        // The sum of many uniform numbers is close to normal, and its power to log-normal.
        let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let takes = Duration::from_secs_f64(30.0 * normal.exp());
        Work { needs: uses.clone(), uses, takes, bytes: random.u64(10..=200) << 20 }
    };
    (0..components).map(component).collect()
}

fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
