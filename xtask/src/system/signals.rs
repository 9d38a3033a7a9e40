//! Ctrl-C, SIGTERM and SIGHUP, as a value that can be waited for.
//!
//! The first signal asks: whoever waits stops what it does and cleans up. The
//! second does not ask, it ends the process.

use tokio::sync::watch;

/// The exit code of an interrupted process, by the shells' convention.
pub const EXIT_CODE: i32 = 130;

/// Whether the user wants to stop.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Takes over the signals. `on_second` runs just before the second one ends
    /// the process.
    pub fn install(on_second: impl Fn() + Send + 'static) -> Result<Self, ctrlc::Error> {
        let (sender, receiver) = watch::channel(false);
        ctrlc::set_handler(move || {
            if sender.send_replace(true) {
                on_second();
                std::process::exit(EXIT_CODE);
            }
        })?;
        Ok(Self(receiver))
    }

    /// One that comes when `true` is sent, for those who handle signals themselves.
    pub fn manual() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether a signal has come.
    pub fn has_come(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for a signal.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|come| *come).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
