//! Docker as the oracle of what a `.dockerignore` says: random trees are built with
//! random ones by the tool and by the docker CLI, and what the CLI keeps of others
//! becomes the table that the matcher's own tests read.
//!
//! CLIs differ. Before 23 (with BuildKit, before buildx) they have another idea of
//! exceptions, of `**` in front of a name, and of some characters beside wildcards;
//! such a one judges only what has none of these. And not all of them look below an
//! ignored folder for what an exception with wildcards names; so where there are
//! exceptions, more of them open every folder.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use fastrand::Rng;
use serde_json::{Value, json};
use tests::Workspace;
use tests::engine::{cli_output, cli_with_buildkit, docker, image_tree, major_version};
use tests::ignore_files::{make, opened, paths, text};
use tests::repository;
use tests::sink::Sink;
use xtask_core::context::dockerignore::Dockerignore;

type Paths = BTreeSet<String>;

/// In a workspace.
const CASES: usize = 12;

/// In a tree of the table.
const PATHS: usize = 48;

const TABLE: &str = "xtask/core/src/context/dockerignore/docker.txt";

const TABLE_HEAD: &str = "\
# The paths that Docker keeps of random trees with random ignore files. Written by
#     cargo test -p tests --test ignore -- --ignored
# and checked by tests.rs.
#
# A line in brackets is a tree: its paths, as JSON. Each line after it is a case: a
# hexadecimal number with one bit for each path that Docker keeps, the lowest bit for the
# last path, or 'refused' if Docker rejects the ignore file; then the ignore file, as JSON.
";

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The paths of a tree, one bit each, the lowest for the last.
fn bits(paths: &Paths, is_set: impl Fn(&String) -> bool) -> u64 {
    paths.iter().fold(0, |bits, path| bits << 1 | u64::from(is_set(path)))
}

/// JSON that shows every white space.
fn json(value: &Value) -> String {
    let shown = |c: char| match c {
        ' ' => c.to_string(),
        c if c.is_whitespace() || c == '\u{feff}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    value.to_string().chars().map(shown).collect()
}

/// What Docker keeps of a tree in a folder, if it takes the ignore file.
fn kept_by_docker(sink: &Sink, folder: &Path, paths: &Paths, text: &str) -> Option<u64> {
    fs::write(folder.join(".dockerignore"), opened(text, paths)).unwrap();
    match sink.sent(folder) {
        Ok(sent) => Some(bits(paths, |path| sent.contains(path))),
        Err(error) => {
            assert!(error.contains("pattern"), "{text:?}: {error}");
            None
        }
    }
}

/// Whether the docker CLI's classic client walks with moby's matcher of today.
fn is_of_today() -> bool {
    let version = docker(&["version", "--format", "{{.Client.Version}}"]);
    let version = String::from_utf8(version).unwrap();
    version.split('.').next().is_some_and(|major| major.parse::<u32>().is_ok_and(|it| it >= 23))
}

/// Writes the table of the matcher's own tests.
///
/// The oracle is the classic client of a CLI since 23, as it walks with moby's matcher
/// of today. It shows for each folder, too, whether it is sent; and as every folder is
/// opened for it, it passes by none. Left out is what only the tool refuses.
#[test]
#[ignore = "it asks Docker some thousand times, and writes a file of this repository"]
fn write_the_table() {
    assert!(is_of_today(), "the table is written with a CLI since 23");
    let version = String::from_utf8(docker(&["--version"])).unwrap();
    let mut rng = Rng::with_seed(number("SEED", 1));
    let (sink, dir) = (Sink::start(), tempfile::tempdir().unwrap());
    let mut table = format!("{TABLE_HEAD}#\n# {version}");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tree in 0..number("TREES", 34) {
        let folder = dir.path().join(tree.to_string());
        let paths = paths(&mut rng, PATHS);
        make(&mut rng, &folder, &paths, &[0o755]);
        fs::write(folder.join("Dockerfile"), "FROM scratch\n").unwrap();
        table.push_str(&format!("{}\n", json(&json!(paths))));
        let texts: BTreeSet<String> = (0..130).map(|_| text(&mut rng, &paths)).collect();
        for text in texts {
            let docker = kept_by_docker(&sink, &folder, &paths, &text);
            let tool = Dockerignore::parse(&text);
            let tool = tool.map(|ignore| bits(&paths, |path| !ignore.ignores(path)));
            let kind = match (docker, &tool) {
                (Some(_), Err(error)) => {
                    println!("left out: {text:?}: {error}");
                    "left out"
                }
                (Some(kept), Ok(_)) if is_dull(kept) && rng.u8(..4) > 0 => "dull",
                (Some(kept), Ok(tool)) if kept == *tool => "the same",
                (None, Err(_)) => "refused",
                _ => "different",
            };
            *counts.entry(kind).or_default() += 1;
            if !matches!(kind, "left out" | "dull") {
                let kept = docker.map_or("refused".to_owned(), |kept| format!("{kept:012x}"));
                table.push_str(&format!("{kept} {}\n", json(&json!(text))));
            }
        }
    }
    println!("{counts:?}");
    fs::write(repository().join(TABLE), table).unwrap();
}

/// Whether all is kept, or nothing, which says little of a matcher.
fn is_dull(kept: u64) -> bool {
    kept == 0 || kept == (1 << PATHS) - 1
}

/// A component whose tree is built twice.
struct Case {
    name: String,
    dockerfile: String,
    text: String,
    /// Whether the ignore file is the Dockerfile's own, which only BuildKit's client reads.
    is_own: bool,
}

impl Case {
    fn new(rng: &mut Rng, workspace: &Workspace, name: &str, can_be_own: bool) -> Self {
        let dir = workspace.root().join("src").join(name);
        let dockerfile = workspace.own(&format!("build/tt-{name}.dockerfile"));
        let write = |file: &str, text: &str| workspace.write(&format!("src/{name}/{file}"), text);
        let is_own = can_be_own && rng.u8(..3) == 0;
        let mut paths = paths(rng, 30);
        paths.extend(["build".to_owned(), "build/a".to_owned()]);
        // The engine itself takes an ignored ignore file out, with a matcher of its own.
        let is_new = !is_own && is_of_today() && major_version() >= 23;
        let text = text_for_both(rng, &paths, is_new);
        let has_exceptions = text.contains('!');
        // The classic builder makes an ignored folder around what is kept, with its own mode.
        let modes = if has_exceptions { &[0o755][..] } else { &[0o755, 0o700, 0o2711, 0o1755] };
        make(rng, &dir, &paths, modes);
        let text = if has_exceptions { opened(&text, &paths) } else { text };
        write(&dockerfile, &format!("FROM scratch\nLABEL of=tt-{name}\nCOPY . /all/\n"));
        if is_own {
            write(&format!("{dockerfile}.dockerignore"), &text);
            write(".dockerignore", "a\nb\n");
        } else {
            write(".dockerignore", &text);
        }
        Self { name: name.to_owned(), dockerfile, text, is_own }
    }

    /// None if the CLI cannot: before 23 it leaves out the Dockerfile itself by some rules.
    fn cli_build(&self, workspace: &Workspace, buildkit: Option<&Path>) -> Option<String> {
        let image = workspace.own(&format!("tt-cli-{}", self.name));
        let dir = workspace.root().join("src").join(&self.name);
        match buildkit.filter(|_| self.is_own) {
            None => {
                let output = cli_output(&dir, &self.dockerfile, &image, &[]);
                let errors = String::from_utf8_lossy(&output.stderr);
                if errors.contains("Cannot locate specified Dockerfile") {
                    println!("not judged: {:?}", self.text);
                    return None;
                }
                assert!(output.status.success(), "{:?}: {errors}", self.text);
            }
            Some(docker) => {
                let mut build = Command::new(docker);
                build.current_dir(dir).env("DOCKER_BUILDKIT", "1");
                build.args(["build", "-q", "-t", &image, "-f", &self.dockerfile, "."]);
                let output = build.output().expect("docker runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Some(image)
    }

    /// Builds it with the CLI, and compares that with what the tool built.
    fn compare(&self, workspace: &Workspace, buildkit: Option<&Path>) {
        let Some(theirs) = self.cli_build(workspace, buildkit) else { return };
        let theirs = self.tree(&theirs);
        let ours = self.tree(&workspace.own(&format!("tt-{}", self.name)));
        let differing = theirs.keys().chain(ours.keys());
        let differing: BTreeMap<_, _> = differing
            .filter(|path| theirs.get(*path) != ours.get(*path))
            .map(|path| (path, [ours.get(path), theirs.get(path)]))
            .collect();
        let how = (if self.is_own { "the Dockerfile's own" } else { ".dockerignore" }, &self.text);
        assert!(differing.is_empty(), "by {how:?} the tool and the CLI make {differing:#?}");
    }

    /// What is in an image but for the Dockerfile, which the tool always sends.
    fn tree(&self, image: &str) -> BTreeMap<String, String> {
        let mut tree = image_tree(image);
        tree.remove("all/build");
        tree.remove(&format!("all/{}", self.dockerfile));
        tree
    }
}

/// An ignore file that the tool takes, and that means the same to CLIs and engines before
/// 23, unless the ones that judge it are newer.
fn text_for_both(rng: &mut Rng, paths: &Paths, are_of_today: bool) -> String {
    let is_new = |after: &str| !after.is_empty() && !after.starts_with(['/', '\r', '\n']);
    loop {
        let text = text(rng, paths);
        // An anchor then; a character today, unless it begins a class.
        let has_anchor = || text.replace("[^", "").contains('^');
        let is_clear = || {
            !text.contains(['!', '+', '(', ')'])
                && !has_anchor()
                && !text.split("**").skip(1).any(is_new)
        };
        if (are_of_today || is_clear()) && Dockerignore::parse(&text).is_ok() {
            return text;
        }
    }
}

#[test]
fn random_trees_are_built_as_the_docker_cli_builds_them() {
    let (seed, steps) = (number("SEED", fastrand::u64(..1 << 32)), number("STEPS", 2));
    println!("SEED={seed} STEPS={steps}");
    let mut rng = Rng::with_seed(seed);
    let buildkit = cli_with_buildkit();
    let has_buildkit = buildkit.is_some();
    for step in 0..steps {
        let workspace = Workspace::new();
        let case = |place| format!("c{place}");
        let case =
            (0..CASES).map(|place| Case::new(&mut rng, &workspace, &case(place), has_buildkit));
        let cases: Vec<Case> = case.collect();
        let builder = if step % 2 == 0 { "buildkit" } else { "classic" };
        workspace.xtask(&["build", "--builder", builder]).exits_with(0);
        thread::scope(|scope| {
            for cases in cases.chunks(CASES / 4) {
                let (workspace, buildkit) = (&workspace, buildkit.as_deref());
                let compare = move || cases.iter().for_each(|it| it.compare(workspace, buildkit));
                scope.spawn(compare);
            }
        });
    }
}
