//! What `watch` costs: the time from the write of a file to the build's request at
//! the engine, what an idle loop takes, and how long it takes to begin.
//!
//!     cargo bench --profile dev -p tests --bench watch
//!     cargo bench --profile dev -p tests --bench watch -- 40x100,1000x100
//!
//! A size is `COMPONENTSxFILES`. The tree is built before, so that the first round has
//! nothing to do. The file that is written lies in a component that no other needs, a
//! new one each time; the time of its write is that of the end of the system call. The
//! request is seen by a proxy before the engine. Of the time, the debounce, 50 ms, is
//! waited on purpose.
//!
//! `git status` in the same tree is what it would cost to look at all of it.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use tests::Workspace;
use tests::engine::Proxy;
use tests::sized::{self, Reads, name, place};

const DEFAULT_SIZES: &str = "40x100,1000x100";
const SAVES: usize = 100;

/// How long nothing happens while an idle loop is measured.
const IDLE: Duration = Duration::from_secs(10);

/// Neither git nor the tool trusts the times of a file that is younger.
const SETTLED: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let Some(arguments) = tests::bench_arguments() else { return ExitCode::SUCCESS };
    tests::compile();
    let sizes = arguments.first().map_or(DEFAULT_SIZES, String::as_str);
    println!(
        "{:<12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "", "start", "median", "p99", "idle CPU", "memory", "git status"
    );
    for size in sizes.split(',') {
        let numbers: Vec<usize> = size.split('x').filter_map(|part| part.parse().ok()).collect();
        let [components, files] = numbers[..] else {
            eprintln!("'{size}' is no size: COMPONENTSxFILES");
            return ExitCode::from(2);
        };
        println!("{size:<12}{}", measure(components, files));
    }
    ExitCode::SUCCESS
}

fn measure(components: usize, files: usize) -> String {
    let proxy = Proxy::start();
    let workspace =
        sized::write(components, files, Reads::One).env("DOCKER_HOST", &proxy.host()).git();
    thread::sleep(SETTLED);
    let mut build = workspace.start(&["build"]);
    for _ in 0..components {
        build.wait_for("| built in ");
        proxy.next_build().expect("a build");
    }
    let _ = build.finish().exits_with(0);

    let started = Instant::now();
    let mut watch = workspace.start(&["watch"]);
    watch.wait_for("watching: ");
    let start = started.elapsed();

    let before = cpu(watch.process());
    thread::sleep(IDLE);
    let idle = cpu(watch.process()).saturating_sub(before).div_duration_f64(IDLE) * 100.0;

    // No other is made from, or takes the files of, one of the second half.
    let leaves = components / 2..components;
    let mut latencies = Vec::new();
    for save in 0..SAVES {
        let component = leaves.start + save % leaves.len();
        let path = format!("src/{}/{}", name(component), place(0));
        let path = workspace.root().join(path);
        fs::write(path, format!("save {save}\n")).expect("a file");
        let written = Instant::now();
        let asked = proxy.next_build().expect("a build");
        latencies.push(asked.saturating_duration_since(written));
        watch.wait_for("watching: ");
    }
    latencies.sort();
    let memory = memory(watch.process());
    watch.interrupt();
    let _ = watch.finish().exits_with(0);
    let status = git_status(&workspace);
    let p99 = latencies[latencies.len() * 99 / 100 - 1];
    let [start, median, p99, status] =
        [start, latencies[latencies.len() / 2], p99, status].map(milliseconds);
    format!("{start:>12}{median:>12}{p99:>12}{idle:>10.1} %{memory:>8} MiB{status:>12}")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The processor time that a process took so far: the kernel counts hundredths of a
/// second.
fn cpu(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[12..14].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// The memory that a process has, in MiB.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

/// The second of two runs.
fn git_status(workspace: &Workspace) -> Duration {
    let run = |root: &Path| {
        let started = Instant::now();
        let git = Command::new("git").arg("status").current_dir(root).output();
        assert!(git.expect("git runs").status.success());
        started.elapsed()
    };
    run(workspace.root());
    run(workspace.root())
}
