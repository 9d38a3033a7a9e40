//! Ctrl-C, SIGTERM and SIGHUP, as a value that can be awaited.
//!
//! The first signal requests a stop: running work ends and cleans up. The second one exits the
//! process. A signal that arrives twice at once is one: `timeout` sends it to the process, and then
//! to its group. What is ignored from the start, as SIGHUP under `nohup`, stays ignored.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of an interrupted process, by the shells' convention.
pub(crate) const EXIT_CODE: i32 = 130;

/// Signals that arrive within this time of the first one are the same request.
const SAME_REQUEST: Duration = Duration::from_millis(100);

/// A request to stop. Clones share it.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Installs the signal handlers, once in a process. `on_second` runs just before the second
    /// signal exits the process.
    pub(crate) fn install(
        on_second: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, ctrlc::Error> {
        static INSTALLED: Mutex<Option<Interrupt>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupt) = &*installed {
            return Ok(interrupt.clone());
        }
        let (sender, receiver) = watch::channel(false);
        let requested = Mutex::new(None);
        let on_signal = Arc::new(move || {
            let mut requested = requested.lock().unwrap_or_else(PoisonError::into_inner);
            match *requested {
                None => {
                    *requested = Some(Instant::now());
                    sender.send_replace(true);
                }
                Some(first) if first.elapsed() < SAME_REQUEST => {}
                Some(_) => {
                    on_second();
                    std::process::exit(EXIT_CODE);
                }
            }
        });
        let ignored = ignored();
        let is_ignored = |kind: SignalKind| ignored & 1 << (kind.as_raw_value() - 1) != 0;
        if !is_ignored(SignalKind::interrupt()) {
            let on_signal = Arc::clone(&on_signal);
            ctrlc::set_handler(move || on_signal())?;
        }
        for kind in [SignalKind::terminate(), SignalKind::hangup()] {
            if is_ignored(kind) {
                continue;
            }
            let (mut signals, on_signal) =
                (signal(kind).map_err(ctrlc::Error::System)?, Arc::clone(&on_signal));
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    on_signal();
                }
            });
        }
        Ok(installed.insert(Self(receiver)).clone())
    }

    /// An interrupt that is requested by sending `true`, instead of by signals.
    pub fn manual() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|is_requested| *is_requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The signals that this process ignores, a bit for each: `SigIgn` in proc(5).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
