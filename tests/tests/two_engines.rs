//! Two engines that share only a registry: what one builds, the other takes.
//!
//!     eval "$(bash tests/engine start 28.5 --store containerd | tail -1 | sed 's/^/export OTHER_/')"
//!     cargo test -p tests --test two_engines -- --ignored
//!     bash tests/engine stop 28.5 --store containerd
//!
//! SEED chooses the story, and STEPS its length; a failure prints its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use tests::engine::{docker, image_files, import_file};
use tests::other_engine::OtherEngine;
use tests::registry::Registry;
use tests::{Output, Workspace};

/// By component, the image that it is made from.
const TREE: [(&str, &str); 6] = [
    ("base", "box"),
    ("middle", "base"),
    ("web", "middle"),
    ("api", "middle"),
    ("tool", "base"),
    ("alone", "box"),
];

fn tree(registry: &str) -> Workspace {
    let toml = format!("registry = \"{registry}/team\"\n");
    let mut workspace =
        Workspace::new().replace(registry, "[REGISTRY]").file("xtask.toml", &toml).with_box();
    for (name, base) in TREE {
        let random = "RUN cat /proc/sys/kernel/random/uuid";
        let dockerfile = format!("FROM tt-{base}\nCOPY build/own /{name}\n{random} > /{name}-id\n");
        workspace = workspace
            .image(name, &dockerfile)
            .file(&format!("src/{name}/build/own"), &format!("{name} 0"));
    }
    workspace
}

/// A checkout of the same files for the other machine.
fn checkout(workspace: &Workspace, registry: &str) -> Workspace {
    let copy = workspace.copy().replace(registry, "[REGISTRY]");
    copy.write("xtask.toml", &format!("registry = \"{registry}/team\"\n"));
    copy
}

#[track_caller]
fn ends(output: Output, expected: &str) -> Output {
    let output = output.exits_with(0);
    let last = output.stderr.lines().rfind(|line| line.starts_with("finished: "));
    assert!(
        last.unwrap_or_default().starts_with(&format!("finished: {expected} in ")),
        "{}",
        output.stderr
    );
    output
}

const TAKE: [&str; 3] = ["build", "--from-registry", "--share"];

#[test]
#[ignore = "needs two engines: DOCKER_HOST and OTHER_DOCKER_HOST"]
fn what_one_engine_built_the_other_takes_in_both_directions() {
    let registry = Registry::start();
    let here = tree(registry.address());
    let other = OtherEngine::of(&here);
    other.take(&here.own("tt-box"), registry.address());
    let there = checkout(&here, registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    ends(other.xtask(&there, &TAKE), "0 built, 0 up to date, 0 failed, 6 pulled");
    ends(other.xtask(&there, &["build"]), "0 built, 6 up to date, 0 failed");
    for workspace in [&here, &there] {
        workspace.write("src/middle/build/own", "edited");
    }
    let output = other.xtask(&there, &TAKE).exits_with(0);
    assert_eq!(output.built_by_name(), ["api", "middle", "web"], "{}", output.stderr);
    ends(here.xtask(&TAKE), "0 built, 3 up to date, 0 failed, 3 pulled");
    ends(here.xtask(&["build"]), "0 built, 6 up to date, 0 failed");
}

/// The containerd image store has the layers of a loaded image in another compression, and cannot
/// use an image that it pulls with them.
#[test]
#[ignore = "needs two engines: DOCKER_HOST and OTHER_DOCKER_HOST"]
fn what_the_other_engine_cannot_use_it_builds() {
    let registry = Registry::start();
    let toml = format!("share = \"{}/team\"\n", registry.address());
    let here = Workspace::new()
        .file("xtask.toml", &toml)
        .image("web", "FROM tt-files\nCOPY build/own /web\n")
        .file("src/web/build/own", "web");
    import_file(&here.own("tt-files"), "unique", &here.own("tt-"));
    let other = OtherEngine::of(&here);
    other.load(&here.own("tt-files"));
    here.xtask(&["build", "--share"]).exits_with(0);
    let output = other.xtask(&here, &["build"]).exits_with(0);
    let cannot = output.stderr.contains("warning: the engine cannot use ");
    assert_eq!(output.built().is_empty(), !cannot, "{}", output.stderr);
    ends(other.xtask(&here, &["build"]), "0 built, 1 up to date, 0 failed");
}

/// A number below `limit`.
fn pick(random: &mut fastrand::Rng, limit: usize) -> usize {
    random.usize(..limit)
}

/// What an image is made from, by the model: its own file, and its base.
fn key(component: &str, own: &BTreeMap<&str, usize>) -> String {
    let base = TREE.iter().find(|(name, _)| *name == component).map(|(_, base)| *base);
    match base {
        Some(base) => format!("{} < {}", own[component], key(base, own)),
        None => String::new(),
    }
}

/// Files are edited, also back, on one machine or both; either builds some of them.
#[test]
#[ignore = "needs two engines: DOCKER_HOST and OTHER_DOCKER_HOST"]
fn no_story_builds_what_was_shared_or_comes_to_a_wrong_image() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let registry = Registry::start();
    let here = tree(registry.address());
    let other = OtherEngine::of(&here);
    other.take(&here.own("tt-box"), registry.address());
    let machines = [&here, &checkout(&here, registry.address())];
    let start: BTreeMap<&str, usize> = TREE.iter().map(|(name, _)| (*name, 0)).collect();
    let mut own = [start.clone(), start];
    let mut shared: BTreeSet<(&str, String)> = BTreeSet::new();
    for step in 0..number("STEPS").unwrap_or(20) {
        let machine = pick(&mut random, 2);
        let (name, _) = TREE[pick(&mut random, TREE.len())];
        let version = pick(&mut random, 3);
        let both = random.bool();
        for edited in (0..2).filter(|edited| both || *edited == machine) {
            own[edited].insert(name, version);
            machines[edited].write(&format!("src/{name}/build/own"), &format!("{name} {version}"));
        }
        let (asked, _) = TREE[pick(&mut random, TREE.len())];
        let arguments: Vec<&str> = TAKE.into_iter().chain(random.bool().then_some(asked)).collect();
        let output = match machine {
            0 => here.xtask(&arguments),
            _ => other.xtask(machines[1], &arguments),
        };
        let output = output.exits_with(0);
        let story = format!("SEED={seed}, step {step}, machine {machine}: {arguments:?}");
        for built in output.built() {
            let is_new = !shared.contains(&(built, key(built, &own[machine])));
            assert!(is_new, "{story}: {built} was shared\n{}", output.stderr);
        }
        let is_whole = arguments.len() == TAKE.len();
        let asked: Vec<&str> =
            if is_whole { TREE.iter().map(|(name, _)| *name).collect() } else { vec![asked] };
        for image in &asked {
            let files = match machine {
                0 => image_files(&here.own(&format!("tt-{image}"))),
                _ => other.files(&here.own(&format!("tt-{image}"))),
            };
            let mut part = *image;
            while let Some((_, base)) = TREE.iter().find(|(name, _)| *name == part) {
                let expected = format!(" {part} {}", own[machine][part]);
                assert!(files[part].ends_with(&expected), "{story}: {image}: {}", files[part]);
                part = base;
            }
        }
        let lines = output.stderr.lines().filter_map(|line| line.split_once(" | image "));
        let known = lines.filter(|(_, what)| {
            ["built", "pulled", "up to date", "in the registry"]
                .iter()
                .any(|end| what.ends_with(end))
        });
        for component in known.map(|(component, _)| component.trim()) {
            let name = TREE.iter().find(|(name, _)| *name == component).expect("a component").0;
            shared.insert((name, key(name, &own[machine])));
        }
    }
    drop(docker(&["rmi", &here.own("tt-box")]));
}
