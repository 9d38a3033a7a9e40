//! Ctrl-C, SIGTERM and SIGHUP, as a value that can be awaited.
//!
//! The first signal requests a stop: running work ends and cleans up. The second one exits the
//! process.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The exit code of an interrupted process, by the shells' convention.
pub(crate) const EXIT_CODE: i32 = 130;

/// A request to stop. Clones share it.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Installs the signal handlers, once in a process. `on_second` runs just before the second
    /// signal exits the process.
    pub(crate) fn install(on_second: impl Fn() + Send + 'static) -> Result<Self, ctrlc::Error> {
        static INSTALLED: Mutex<Option<Interrupt>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupt) = &*installed {
            return Ok(interrupt.clone());
        }
        let (sender, receiver) = watch::channel(false);
        ctrlc::set_handler(move || {
            if sender.send_replace(true) {
                on_second();
                std::process::exit(EXIT_CODE);
            }
        })?;
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
