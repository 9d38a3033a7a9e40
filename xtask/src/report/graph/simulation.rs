//! What `graph --simulate` found, as text or JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::graph::{Row, Simulation};
use crate::quantity;
use crate::report::table::align;

/// More workers pay if they save more than one part in so many.
const WORTHWHILE: u32 = 20;

/// A table of the simulations, between what was simulated and where it stops paying.
pub(crate) fn lines(simulation: &Simulation) -> Vec<String> {
    let mut lines = vec![subject(simulation)];
    if simulation.never_built > 0 {
        let number = quantity::count(simulation.never_built, "component");
        lines.push(format!("{number} never built here: counted as the median"));
    }
    lines.push(String::new());
    let heading = ["workers", "as jobs of one machine", "", "as machines", "", "transferred"];
    let rows = simulation.rows.iter().map(|row| cells(simulation, row));
    let rows: Vec<[String; 6]> = [heading.map(str::to_owned)].into_iter().chain(rows).collect();
    lines.extend(align(&rows));
    lines.push(String::new());
    let jobs = stops_paying(&simulation.rows, |row| row.jobs.makespan);
    let machines = stops_paying(&simulation.rows, |row| row.machines.makespan);
    for (noun, count) in [("job", jobs), ("machine", machines)] {
        if let Some(count) = count {
            let workers = quantity::count(count, noun);
            lines.push(format!("more than {workers} save less than {}%", 100 / WORTHWHILE));
        }
    }
    lines.push(format!(
        "critical path, {}: {}",
        time(simulation.critical),
        simulation.critical_path.join(" -> ")
    ));
    lines
}

fn subject(simulation: &Simulation) -> String {
    let components = quantity::count(simulation.components, "component");
    let work = format!("{components}, {} of work", time(simulation.work));
    let Some(bytes) = simulation.bytes else { return work };
    let speed = quantity::bytes(simulation.bytes_per_second);
    format!("{work}, {} of images at {speed}/s", quantity::bytes(bytes))
}

fn cells(simulation: &Simulation, row: &Row) -> [String; 6] {
    let speedup = |makespan: Duration| {
        format!("{:.1}x", simulation.work.as_secs_f64() / makespan.as_secs_f64().max(0.001))
    };
    let (jobs, machines) = (row.jobs.makespan, row.machines.makespan);
    let transferred = match simulation.bytes {
        Some(_) => quantity::bytes(row.machines.transferred),
        None => String::new(),
    };
    let workers = row.workers.to_string();
    [workers, time(jobs), speedup(jobs), time(machines), speedup(machines), transferred]
}

/// The number of workers that none of the larger numbers beats by enough; none if it is the largest.
fn stops_paying(rows: &[Row], time: fn(&Row) -> Duration) -> Option<usize> {
    let best = rows.iter().map(time).min()?;
    let is_enough = |row: &&Row| time(row) <= best + best / (WORTHWHILE - 1);
    let fewest = rows.iter().filter(is_enough).map(|row| row.workers).min()?;
    rows.iter().any(|row| row.workers > fewest).then_some(fewest)
}

/// `1h 02m`, `12m 03s` or `4.2s`.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        3600.. => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        60.. => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{:.1}s", duration.as_secs_f64()),
    }
}

/// The same for programs: times in seconds, sizes in bytes.
pub(crate) fn document(simulation: &Simulation) -> Value {
    let row = |row: &Row| {
        json!({
            "workers": row.workers,
            "jobs_seconds": row.jobs.makespan.as_secs_f64(),
            "machines_seconds": row.machines.makespan.as_secs_f64(),
            "transferred_bytes": row.machines.transferred,
        })
    };
    json!({
        "components": simulation.components,
        "never_built": simulation.never_built,
        "work_seconds": simulation.work.as_secs_f64(),
        "image_bytes": simulation.bytes,
        "bytes_per_second": simulation.bytes_per_second,
        "critical_path": simulation.critical_path,
        "critical_path_seconds": simulation.critical.as_secs_f64(),
        "rows": simulation.rows.iter().map(row).collect::<Vec<Value>>(),
    })
}
