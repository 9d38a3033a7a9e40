//! The debug trace of `-vv`: what the machine decided and why, and what the engine was asked.

use std::io;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Prints the trace of this tool, not of its libraries, on standard error. Times count from
/// the start.
pub(crate) fn install() {
    let format =
        fmt::layer().with_writer(io::stderr).with_ansi(false).with_timer(fmt::time::uptime());
    let own = Targets::new().with_target("xtask", Level::DEBUG);
    tracing_subscriber::registry().with(format).with(own).init();
}
