//! What `doctor` found, as text or JSON.

use serde_json::{Value, json};
use xtask_core::escape;

use crate::commands::doctor::{Check, Status};
use crate::event::VERSION;

/// A line for each check, and one for each remedy.
pub(crate) fn lines(checks: &[Check]) -> Vec<String> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for Check { name, status, message, remedy } in checks {
        let message = escape::lines(message).replace('\n', "\n    ");
        lines.push(format!("{:4}  {name:width$}  {message}", word(*status)));
        if let Some(remedy) = remedy {
            lines.push(format!("      {:width$}  → {}", "", escape::line(remedy)));
        }
    }
    lines
}

/// The JSON document.
pub(crate) fn document(checks: &[Check]) -> Value {
    let checks = checks.iter().map(|Check { name, status, message, remedy }| {
        json!({ "name": name, "status": word(*status), "message": message, "remedy": remedy })
    });
    json!({ "version": VERSION, "checks": checks.collect::<Vec<_>>() })
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Fail => "fail",
    }
}
