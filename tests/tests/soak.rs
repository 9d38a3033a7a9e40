//! A workspace that is watched while it is edited in bursts: whenever it is quiet, all
//! images are what the model says that they contain, none was built without need, and neither
//! memory nor open files nor threads grow.
//!
//!     SOAK_EDITS=1000 cargo test -p tests --test soak -- --nocapture
//!
//! `SEED` chooses another story. A failure names its seed, and the edits that led to it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use tests::model::{Kind, Model, State, with_parents};
use tests::reference;
use tests::scripted::ScriptedEngine;
use tests::sites::{reading, setting};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use xtask::commands::watch::{self, WatchOptions};
use xtask::event::Event;
use xtask::event_channel::{Events, TimedEvent};
use xtask::outcome::Outcome;
use xtask::system::signals::Interrupt;

/// The memory that a longer life may cost, in bytes.
const MORE_MEMORY: u64 = 16 << 20;

/// The open files and the threads that it may cost: there are more of both while a round runs.
const MORE_FILES: usize = 24;
const MORE_THREADS: usize = 48;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn engine() -> ScriptedEngine {
    let engine = ScriptedEngine::default();
    engine.import("tt-outside", reference::outside(0));
    engine
}

/// A component of its own, whose build shows that what was written before it was seen.
fn mark(root: &Path, count: usize) {
    let dir = root.join("src/mark");
    fs::create_dir_all(dir.join("build")).expect("a folder");
    fs::write(dir.join("count"), count.to_string()).expect("a file");
    let dockerfile = dir.join("build/mark.dockerfile");
    if !dockerfile.exists() {
        fs::write(dockerfile, "# 0\nFROM scratch\nCOPY . /\n").expect("a file");
    }
}

/// Said of a file that came while hooks ran, and was not there when they ran again. Whoever
/// deleted it then finds it again.
const KEPT: &str = "If it is not, delete it";

/// Deletes in the components what is not the model's, and no hook's either; whether there was
/// anything.
fn tidy(root: &Path, state: &State) -> bool {
    let known: Vec<String> = with_parents(state.files.clone()).into_keys().collect();
    let hooks = reference::leftovers(state);
    let is_theirs = |path: &str| {
        let below = path.split('/').nth(2);
        below == Some("generated") || hooks.iter().any(|it| path.starts_with(it.as_str()))
    };
    let mut has_found = false;
    for component in state.components.keys() {
        let mut open = vec![format!("src/{component}")];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
                let path = format!("{folder}/{}", entry.file_name().display());
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if known.binary_search(&path).is_ok() {
                    if is_folder {
                        open.push(path);
                    }
                } else if !is_theirs(&path) {
                    has_found = true;
                    drop(
                        fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path())),
                    );
                }
            }
        }
    }
    has_found
}

/// Gives what happened until then.
async fn wait_until_quiet(events: &mut UnboundedReceiver<TimedEvent>) -> Vec<String> {
    let mut is_marked = false;
    let mut told = Vec::new();
    loop {
        let event = events.recv().await.expect("it still runs").event;
        told.push(format!("{event:?}"));
        match event {
            Event::StepFinished { component, outcome: Outcome::Built, .. } => {
                is_marked |= component == "mark";
            }
            Event::Watching { .. } if is_marked => return told,
            _ => {}
        }
    }
}

fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kibibytes = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    kibibytes.expect("a number") << 10
}

/// What the process has of something, such as `fd`.
fn count(folder: &str) -> usize {
    fs::read_dir(Path::new("/proc/self").join(folder)).expect("a process").count()
}

async fn edit(
    root: &Path,
    model: &mut Model,
    engine: &ScriptedEngine,
    mut events: UnboundedReceiver<TimedEvent>,
    (seed, edits): (u64, usize),
) {
    let mut rng = Rng::with_seed(seed);
    let mut story = vec![format!("SEED={seed}")];
    let (mut done, mut quiet, mut first) = (0, 0, None);
    mark(root, 0);
    wait_until_quiet(&mut events).await;
    while done < edits {
        for _ in 0..rng.usize(1..30) {
            story.push(model.edit_files(root, str::to_owned).text);
            done += 1;
            let pause = rng.choice([0, 0, 1, 10, 60, 200]).expect("one of them");
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        quiet += 1;
        mark(root, quiet);
        let mut happened = wait_until_quiet(&mut events).await;
        while happened.iter().any(|event| event.contains(KEPT)) && tidy(root, &model.state) {
            quiet += 1;
            mark(root, quiet);
            happened = wait_until_quiet(&mut events).await;
        }
        story.push("quiet".to_owned());
        let told = || format!("{}\n{}", story.join("\n"), happened.join("\n"));
        for (component, expected) in reference::images(&model.state) {
            let found = engine.contents(&format!("tt-{component}")).unwrap_or_default();
            let is_same = |path: &&String| found.get(*path) == expected.get(*path);
            let paths: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
            let stale: Vec<String> = paths
                .into_iter()
                .filter(|path| !is_same(path))
                .map(|path| {
                    format!("{path}: {:?}, expected {:?}", found.get(path), expected.get(path))
                })
                .collect();
            assert!(stale.is_empty(), "{}\n{component} is stale:\n{}", told(), stale.join("\n"));
        }
        assert!(engine.needless().is_empty(), "{}\n{:?}", told(), engine.needless());
        engine.prune();
        if done * 4 > edits {
            first.get_or_insert_with(|| (memory(), count("fd"), count("task")));
        }
        let (memory, files, threads) = (memory() >> 20, count("fd"), count("task"));
        println!(
            "{done} edits, {quiet} times quiet, {memory} MiB, {files} files, {threads} threads"
        );
    }
    let (bytes, files, threads) = first.expect("a quarter is over");
    assert!(memory() < bytes + MORE_MEMORY, "{bytes} bytes have become {}", memory());
    assert!(count("fd") < files + MORE_FILES, "{files} files have become {}", count("fd"));
    assert!(count("task") < threads + MORE_THREADS, "{threads} threads: {}", count("task"));
}

#[test]
fn nothing_is_missed_and_nothing_is_built_twice() {
    let seed = number("SEED", 1);
    let edits = usize::try_from(number("SOAK_EDITS", 100)).expect("fewer");
    let dir = tempfile::tempdir().expect("a folder");
    let mut model = Model::declared(seed, Kind::of_files());
    model.write(dir.path(), str::to_owned);
    let engine = engine();
    engine.take(Duration::from_millis(20));
    let (sender, events) = mpsc::unbounded_channel();
    let (end, interrupt) = Interrupt::manual();
    let setting = setting(dir.path(), &model.state, Events::new(sender), interrupt);
    let watching = WatchOptions {
        reading: reading(&model.state),
        components: Vec::new(),
        jobs: None,
        debounce: Duration::from_millis(20),
        poll: None,
        no_initial: false,
        on_success: None,
        on_failure: None,
        push: None,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let edits = async {
            edit(dir.path(), &mut model, &engine, events, (seed, edits)).await;
            end.send_replace(true);
        };
        let (ended, ()) = tokio::join!(watch::run_with(&engine, &watching, None, &setting), edits);
        ended.expect("it was idle");
    });
}
