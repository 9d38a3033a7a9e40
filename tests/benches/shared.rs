//! Forty images on an engine that has none of them: built, taken from a registry with
//! `--from-registry`, and built by `docker buildx bake` from its cache in the same registry, in
//! turn, in the same run. And what it takes to ask for a thousand images that are not there.
//!
//!     eval "$(bash tests/engine start 28.5 --store containerd | tail -1 | sed 's/^/export /')"
//!     PATH=$PWD/target/test-tools/engines/engine-28.5/usr/bin:$PATH \
//!         cargo bench --profile dev -p tests --bench shared
//!
//! The engine must be one for this alone: its build cache is removed before each measurement. Each
//! image runs an instruction of half a second. What is printed is the median of the rounds.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tests::engine::docker;
use tests::layered::{self, IMAGES, bake, name};
use tests::registry::Registry;
use tests::{Workspace, median};

const ROUNDS: usize = 3;

/// How many images are asked for in vain.
const QUESTIONS: usize = 1000;

fn main() -> ExitCode {
    if tests::bench_arguments().is_none() {
        return ExitCode::SUCCESS;
    }
    tests::compile();
    let registry = Registry::start();
    let workspace = tree();
    let from = format!("--from-registry={}/shared", registry.address());
    workspace.write("xtask.toml", &format!("registry = \"{}/shared\"\n", registry.address()));
    let _ = workspace.xtask(&["build", "--quiet", "--share"]).exits_with(0);
    bake(&workspace, &for_each("cache-to", registry.address(), ",mode=max"));
    let from_cache = for_each("cache-from", registry.address(), "");
    let mut times = [const { Vec::new() }; 3];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        times[0].push(on_an_empty_engine(&workspace, || {
            let _ = workspace.xtask(&["build", "--quiet"]).exits_with(0);
        }));
        times[1].push(on_an_empty_engine(&workspace, || {
            let _ = workspace.xtask(&["build", "--quiet", &from]).exits_with(0);
        }));
        times[2].push(on_an_empty_engine(&workspace, || bake(&workspace, &from_cache)));
    }
    let [built, taken, baked] = times.map(median);
    println!("| {IMAGES} images, an empty engine | |");
    println!("| --- | ---: |");
    for (name, time) in [
        ("xtask build", built),
        ("xtask build --from-registry", taken),
        ("docker buildx bake with a registry cache", baked),
    ] {
        println!("| {name} | {:.1} s |", time.as_secs_f64());
    }
    let [alone, asking] = questions(&registry);
    println!(
        "\n| {QUESTIONS} stale images that the registry does not have, until the first fails | |"
    );
    println!("| --- | ---: |");
    println!("| xtask build | {:.2} s |", alone.as_secs_f64());
    println!("| xtask build --from-registry | {:.2} s |", asking.as_secs_f64());
    ExitCode::SUCCESS
}

/// Asks for images of which none is there. All are asked for before anything is built, and what is
/// built first fails at once.
fn questions(registry: &Registry) -> [Duration; 2] {
    let workspace = Workspace::new();
    for name in (0..QUESTIONS).map(|number| format!("q{number:04}")) {
        workspace.write(
            &format!("src/{name}/build/{}.dockerfile", workspace.own(&format!("tt-{name}"))),
            "FROM scratch\nCOPY build /\nRUN nothing\n",
        );
    }
    let none = format!("--from-registry={}/none", registry.address());
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..=ROUNDS {
        let asking = ["build", "--quiet", &none];
        for (times, arguments) in times.iter_mut().zip([&asking[..2], &asking]) {
            let started = Instant::now();
            let _ = workspace.xtask(arguments).exits_with(1);
            times.push(started.elapsed());
        }
    }
    // The first of each reads files that nobody has read.
    times.map(|times| median(times[1..].to_vec()))
}

/// Measures what is done on an engine that has only the base of all.
fn on_an_empty_engine(workspace: &Workspace, work: impl FnOnce()) -> Duration {
    let all = docker(&["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"]);
    let all = String::from_utf8_lossy(&all).into_owned();
    let (prefix, bottom) = (workspace.own("tt-"), workspace.own("tt-box"));
    let is_ours = |name: &str| name.contains(&prefix) && !name.ends_with(&bottom);
    let ours = all.lines().filter_map(|line| line.split_once(' '));
    let ours: BTreeSet<&str> = ours.filter(|(_, name)| is_ours(name)).map(|(id, _)| id).collect();
    for id in ours {
        docker(&["rmi", "--force", id]);
    }
    docker(&["builder", "prune", "--all", "--force"]);
    drop(std::fs::remove_dir_all(workspace.root().join("target/xtask")));
    let started = Instant::now();
    work();
    started.elapsed()
}

/// An option for each image, with the reference of its cache.
fn for_each(key: &str, registry: &str, more: &str) -> Vec<String> {
    let option = |name: String| {
        let cache = format!("type=registry,ref={registry}/cache:{name}{more}");
        ["--set".to_owned(), format!("{name}.{key}={cache}")]
    };
    (0..IMAGES).map(name).flat_map(option).collect()
}

fn tree() -> Workspace {
    let workspace = Workspace::new().with_box();
    layered::write(&workspace, "tt-box", |name| {
        format!("COPY file.txt /{name}/\nRUN sleep 0.5; echo {name} > /{name}/made\n")
    });
    for name in (0..IMAGES).map(name) {
        workspace.write(&format!("src/{name}/file.txt"), &name.repeat(1000));
    }
    workspace
}
