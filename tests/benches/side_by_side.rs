//! What forty images that do not need each other take with eight jobs, beside the
//! docker CLI driven by `make -j 8` in the same tree, in turn, in the same run.
//!
//!     cargo bench --profile dev -p tests --bench side_by_side
//!
//! Each image does one second of nothing (`RUN sleep 1`), so that what is compared is
//! how well the time is filled. Nothing is taken from the engine's cache.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tests::engine::cli_with_buildkit;
use tests::{Workspace, median};

const IMAGES: usize = 40;
const JOBS: &str = "8";
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    if tests::bench_arguments().is_none() {
        return ExitCode::SUCCESS;
    }
    tests::compile();
    let docker =
        format!("DOCKER={}", cli_with_buildkit().expect("a docker CLI with BuildKit").display());
    let workspace = tree();
    let mut tool = Vec::new();
    let mut make = Vec::new();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        tool.push(timed(|| {
            let _ = workspace.xtask(&["build", "-j", JOBS, "--no-cache"]).exits_with(0);
        }));
        make.push(timed(|| {
            let mut make = Command::new("make");
            make.args(["--silent", "--jobs", JOBS]).arg(&docker).current_dir(workspace.root());
            let status = make.stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.expect("make runs").success());
        }));
    }
    let (tool, make) = (median(tool), median(make));
    println!("{IMAGES} images with a second of nothing each, {JOBS} jobs, median of {ROUNDS}");
    println!("xtask build              {:5.1} s", tool.as_secs_f64());
    println!("make and docker build    {:5.1} s", make.as_secs_f64());
    println!("ratio                    {:5.2}", tool.as_secs_f64() / make.as_secs_f64());
    ExitCode::SUCCESS
}

fn tree() -> Workspace {
    let mut workspace = Workspace::new().with_box();
    let mut makefile = "all:".to_owned();
    for number in 0..IMAGES {
        makefile.push_str(&format!(" i{number}"));
    }
    makefile.push_str("\ni%:\n\tDOCKER_BUILDKIT=1 $(DOCKER) build --quiet --no-cache ");
    makefile.push_str("-t tt-$@-make -f src/$@/build/tt-$@.dockerfile src/$@\n");
    for number in 0..IMAGES {
        let dockerfile = format!("FROM tt-box\nRUN sleep 1; echo {number}\n");
        workspace = workspace.image(&format!("i{number}"), &dockerfile);
    }
    workspace.file("Makefile", &makefile)
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}
