//! The debug trace of `-vv`: what the machine decided and why, and what the engine was asked.

use std::io::{self, Write};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use xtask_core::escape;

use crate::ui::workflow_commands::shown;

/// Prints the trace of this tool, not of its libraries, on standard error. Times count from
/// the start.
pub(crate) fn install(is_github: bool) {
    let format = fmt::layer()
        .with_writer(move || Escaped { is_github })
        .with_ansi(false)
        .with_timer(fmt::time::uptime());
    let own = Targets::new().with_target("xtask", Level::DEBUG);
    tracing_subscriber::registry().with(format).with(own).init();
}

/// Standard error for records that have names and messages of others in them: each is written at
/// once, and comes to one line.
struct Escaped {
    is_github: bool,
}

impl Write for Escaped {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let line = escape::line(text.trim_end_matches('\n'));
        writeln!(io::stderr(), "{}", shown(&line, self.is_github))?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
