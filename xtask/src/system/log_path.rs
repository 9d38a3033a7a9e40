//! Where the log of each component is: `target/xtask/logs/NAME.log`.

use xtask_core::escape;

use crate::system::state;

/// The folder of all logs, relative to the root.
pub(crate) fn dir() -> String {
    format!("{}/logs", state::DIR)
}

/// The path of a component's log, relative to the root: its name without control characters
/// and path separators.
pub(crate) fn of(component: &str) -> String {
    format!("{}/{}.log", dir(), escape::line(component).replace('/', "%"))
}
