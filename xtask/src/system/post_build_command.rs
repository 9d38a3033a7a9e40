//! The command that `watch` runs after a round. It can be a server, which runs until the next
//! round.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// The time between SIGTERM and SIGKILL.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// The names of the components that a round built, and of their images.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) components: Vec<String>,
    pub(crate) images: Vec<String>,
}

/// The running command, if there is one.
#[derive(Debug, Default)]
pub(crate) struct PostBuildCommand(Option<Child>);

impl PostBuildCommand {
    /// Starts a command in the workspace's root, with the names in `XTASK_COMPONENTS` and
    /// `XTASK_IMAGES`, separated by spaces.
    pub(crate) fn start(&mut self, command: &str, root: &Path, built: &Built) -> io::Result<()> {
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

    /// Stops the command and its children.
    pub(crate) async fn stop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(group) = group else { return };
        // It fails only if the group has exited.
        let _ = kill_process_group(group, Signal::TERM);
        if tokio::time::timeout(GRACE_PERIOD, child.wait()).await.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
            drop(child.wait().await);
        }
    }
}
