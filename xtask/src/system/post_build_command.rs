//! What a user wants to be done after a round: one command of the shell at a time,
//! which may as well be a server that runs until the next round.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// How long it may clean up after itself.
const GRACE: Duration = Duration::from_secs(3);

/// The components of a round that were built, and their images.
#[derive(Debug, Default)]
pub struct Built {
    /// The components' names.
    pub components: Vec<String>,
    /// The images' names.
    pub images: Vec<String>,
}

/// The command that runs, if one does.
#[derive(Debug, Default)]
pub struct PostBuildCommand(Option<Child>);

impl PostBuildCommand {
    /// Starts a command in the workspace's root. What was built is in `XTASK_COMPONENTS`
    /// and `XTASK_IMAGES`, separated by spaces.
    pub fn start(&mut self, command: &str, root: &Path, built: &Built) -> io::Result<()> {
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(root)
            .env("XTASK_COMPONENTS", built.components.join(" "))
            .env("XTASK_IMAGES", built.images.join(" "))
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        self.0 = Some(child);
        Ok(())
    }

    /// Ends the command with all that it started.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(group) = group else { return };
        // It fails only if the group has ended by itself.
        let _ = kill_process_group(group, Signal::TERM);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
            drop(child.wait().await);
        }
    }
}
