//! What it takes to draw the graph of many components, beside `git ls-files` in the
//! same tree, which lists the files that have to be read for it and reads none.
//!
//!     cargo bench --profile dev -p tests --bench graph
//!     cargo bench --profile dev -p tests --bench graph -- 2000
//!
//! No engine is asked. The files are in memory all the time.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tests::median;
use tests::sized::{self, Reads};

const ROUNDS: usize = 11;

fn main() -> ExitCode {
    let Some(arguments) = tests::bench_arguments() else { return ExitCode::SUCCESS };
    let components: usize =
        arguments.first().map_or(2000, |text| text.parse().expect("a number of components"));
    let xtask = tests::compile();
    let workspace = sized::write(components, 1, Reads::One).git();
    let commands = [
        ("git ls-files", vec!["git", "ls-files"]),
        ("graph", vec!["graph"]),
        ("graph --dot", vec!["graph", "--dot"]),
        ("graph --json", vec!["graph", "--json"]),
        ("graph --svg FILE", vec!["graph", "--svg", "target/graph.svg"]),
        ("graph --html FILE", vec!["graph", "--html", "target/graph.html"]),
    ];
    std::fs::create_dir_all(workspace.root().join("target")).expect("a folder");
    let mut times = vec![Vec::new(); commands.len()];
    for _ in 0..ROUNDS {
        for ((_, arguments), times) in commands.iter().zip(&mut times) {
            let mut command = match arguments[..] {
                ["git", ..] => Command::new("git"),
                _ => Command::new(&xtask),
            };
            let arguments = arguments.iter().filter(|argument| **argument != "git");
            command.args(arguments).current_dir(workspace.root()).stdout(Stdio::null());
            let started = Instant::now();
            assert!(command.status().expect("it starts").success(), "{command:?}");
            times.push(started.elapsed());
        }
    }
    let medians: Vec<Duration> = times.into_iter().map(median).collect();
    println!("{components} components, median of {ROUNDS}");
    println!("{:<20}{:>10}{:>18}", "", "median", "/ git ls-files");
    for ((name, _), median) in commands.iter().zip(&medians) {
        let ratio = median.div_duration_f64(medians[0]);
        println!("{name:<20}{:>7.1} ms{ratio:>18.1}", median.as_secs_f64() * 1000.0);
    }
    ExitCode::SUCCESS
}
