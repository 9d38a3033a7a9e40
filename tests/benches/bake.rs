//! Builds of forty images beside `docker buildx bake`, on the same engine, in turn, in the same
//! run: with nothing to do, after an edit, and of everything.
//!
//!     eval "$(bash tests/engine start 28.5 --store containerd | tail -1 | sed 's/^/export /')"
//!     PATH=$PWD/target/test-tools/engines/engine-28.5/usr/bin:$PATH \
//!         cargo bench --profile dev -p tests --bench bake
//!
//! The images are FROM each other in five levels of eight, with a hundred files each, which their
//! Dockerfiles copy. Bake gets a file that links them by `target:`, as a user would write it. Both
//! build the same files under names of their own, and each finds in the build cache what the other
//! does not: an edit is another one for each. What is printed is the median of the rounds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tests::layered::{self, IMAGES, name};
use tests::{Workspace, median};

const FILES: usize = 100;
const ROUNDS: usize = 7;

/// What is edited before a build.
struct Action {
    name: &'static str,
    edited: fn() -> Vec<usize>,
}

const ACTIONS: [Action; 4] = [
    Action { name: "nothing to do", edited: Vec::new },
    Action { name: "an edit of a leaf", edited: || vec![IMAGES - 1] },
    Action { name: "an edit of a base", edited: || vec![0] },
    Action { name: "everything stale", edited: || (0..IMAGES).collect() },
];

fn main() -> ExitCode {
    if tests::bench_arguments().is_none() {
        return ExitCode::SUCCESS;
    }
    tests::compile();
    let workspace = tree();
    build(&workspace);
    bake(&workspace);
    println!("| {IMAGES} images, {FILES} files each | xtask build | bake | ratio |");
    println!("| --- | ---: | ---: | ---: |");
    for Action { name, edited } in ACTIONS {
        let (mut own, mut bakes) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(after_edit(&workspace, &edited(), build));
            bakes.push(after_edit(&workspace, &edited(), bake));
            // What the other one's edit made stale is not measured.
            build(&workspace);
        }
        let (own, bakes) = (median(own), median(bakes));
        let ratio = own.as_secs_f64() / bakes.as_secs_f64();
        println!(
            "| {name} | {:.2} s | {:.2} s | {ratio:.2} |",
            own.as_secs_f64(),
            bakes.as_secs_f64()
        );
    }
    ExitCode::SUCCESS
}

fn after_edit(workspace: &Workspace, edited: &[usize], build: fn(&Workspace)) -> Duration {
    let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(64).collect();
    for image in edited {
        workspace.write(&format!("src/{}/file-0.txt", name(*image)), &text);
    }
    let started = Instant::now();
    build(workspace);
    started.elapsed()
}

fn build(workspace: &Workspace) {
    let _ = workspace.xtask(&["build", "--quiet"]).exits_with(0);
}

fn bake(workspace: &Workspace) {
    layered::bake(workspace, &[]);
}

fn tree() -> Workspace {
    let workspace = Workspace::new();
    layered::write(&workspace, "scratch", |name| format!("COPY . /{name}/\n"));
    for name in (0..IMAGES).map(name) {
        for file in 0..FILES {
            let line = format!("file {file} of {name}, which no other has\n");
            workspace.write(&format!("src/{name}/file-{file}.txt"), &line.repeat(1 + file % 40));
        }
    }
    workspace
}
