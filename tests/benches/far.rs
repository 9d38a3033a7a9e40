//! What it takes to hand a folder to an engine over a link, beside the docker CLI with the
//! same builder: in turn, in the same run, each with a tree of its own.
//!
//!     cargo bench --profile dev -p tests --bench far
//!
//! The engine is behind a port of this machine that takes so many bytes a second. There
//! are 64 MiB in 64 files that the engine has never seen: lines of text, which become a
//! quarter when they are compressed, or random bytes, which stay as many.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use tests::Workspace;
use tests::engine::cli_with_buildkit;
use tests::far::Far;

const FILES: usize = 64;
const ROUNDS: usize = 3;

const LINKS: [(&str, Option<u64>); 2] =
    [("100 Mbit/s", Some(12_500_000)), ("1 Gbit/s", Some(125_000_000))];

/// By `DOCKER_BUILDKIT`.
const BUILDERS: [(&str, &str); 2] = [("1", "BuildKit"), ("0", "classic")];

fn main() -> ExitCode {
    if tests::bench_arguments().is_none() {
        return ExitCode::SUCCESS;
    }
    tests::compile();
    let cli = cli_with_buildkit().expect("a docker CLI with BuildKit");
    println!("{:<12}{:<10}{:<10}{:>10}{:>10}{:>8}", "", "", "", "xtask", "docker", "ratio");
    for (link, speed) in LINKS {
        for (number, builder) in BUILDERS {
            for is_text in [true, false] {
                let (mut own, mut theirs) = (Vec::new(), Vec::new());
                for _ in 0..ROUNDS {
                    own.push(build(&tree(is_text), speed, number));
                    theirs.push(build_with(&cli, &tree(is_text), speed, number));
                }
                let [own, theirs] = [own, theirs].map(median);
                let what = if is_text { "text" } else { "random" };
                let ratio = own / theirs;
                println!(
                    "{link:<12}{builder:<10}{what:<10}{own:>8.2} s{theirs:>8.2} s{ratio:>8.2}"
                );
            }
        }
    }
    ExitCode::SUCCESS
}

fn tree(is_text: bool) -> Workspace {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY . /\n");
    for file in 0..FILES {
        let mut contents = vec![0; 1 << 20];
        fastrand::fill(&mut contents);
        if is_text {
            // Two bits of each byte are left.
            for byte in &mut contents {
                *byte = b"acgt"[usize::from(*byte & 3)];
            }
        }
        workspace.write_bytes(&format!("src/a/f{file}"), &contents);
    }
    workspace
}

fn build(workspace: &Workspace, speed: Option<u64>, builder: &str) -> Duration {
    let far = Far::start(speed);
    let started = Instant::now();
    let variables = [("DOCKER_HOST", far.host()), ("DOCKER_BUILDKIT", builder)];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let _ = workspace.xtask_with(&variables, &["build"]).exits_with(0);
    started.elapsed()
}

fn build_with(cli: &Path, workspace: &Workspace, speed: Option<u64>, builder: &str) -> Duration {
    let far = Far::start(speed);
    let mut docker = Command::new(cli);
    let dockerfile = workspace.own("build/tt-a.dockerfile");
    docker.args([
        "build",
        "--quiet",
        "--tag",
        &workspace.own("tt-cli"),
        "--file",
        &dockerfile,
        ".",
    ]);
    docker.current_dir(workspace.root().join("src/a"));
    docker.env("DOCKER_BUILDKIT", builder).env("DOCKER_HOST", far.host());
    let started = Instant::now();
    let output = docker.output().expect("docker runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    started.elapsed()
}

fn median(times: Vec<Duration>) -> f64 {
    tests::median(times).as_secs_f64()
}
