//! Podman without a daemon: `podman system service`, on a socket of its own, for as long as a
//! command needs it.
//!
//! A shell starts the service and ends it when a pipe is closed whose other end this program holds.
//! So it ends with this program, even if that is killed. Both have a process group of their own:
//! Ctrl-C does not reach them, and a build is cancelled first.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};

use crate::engine::error::{CALL_TIMEOUT, EngineError};
use crate::engine::programs::is_installed;
use crate::engine::socket_folder::SocketFolder;
use crate::engine::waiting::Waiting;
use crate::event::Event;
use crate::event_channel::Events;

/// What stands for the endpoint in messages and records: the socket is another one each time.
pub(super) const NAME: &str = "podman system service";

/// How often a service that starts is looked for.
const POLL: Duration = Duration::from_millis(20);

/// What Podman says if another one made its locks in the same moment, as after the machine's start.
const RACE: &str = "libpod_lock: file exists";

/// How often it is started then.
const TRIES: usize = 5;

/// Runs the service in the folder `$1` until standard input is closed. A `RUN` that goes on then
/// is killed first, and Podman is given the time to remove its container: its service does not wait
/// for a build whose client is gone.
const GUARD: &str = r#"
exec 3<&0
podman system service --time=0 "unix://$1/socket" </dev/null >/dev/null 2>"$1/log" 3<&- &
service=$!
descendants() {
    for child in $(cat "/proc/$1/task/"*/children); do
        echo "$child"
        descendants "$child"
    done
}
has_working_containers() {
    podman ps --external --format '{{.Names}}' </dev/null 2>/dev/null | grep -q -- -working-container
}
{
    while read -r _; do :; done
    running=$(descendants "$service")
    if [ -n "$running" ]; then
        kill -KILL $running
        tries=40
        while [ "$tries" -gt 0 ] && has_working_containers; do
            tries=$((tries - 1))
            sleep 0.25
        done
    fi
    rm -rf "$1"
    kill -TERM "$service"
    sleep 10
    kill -KILL "$service"
} <&3 &
wait "$service"
kill -KILL 0
"#;

/// The running service. Dropping it ends the service.
#[derive(Debug)]
pub(crate) struct PodmanService {
    /// The guard removes it, too, if it is the last one to live.
    folder: SocketFolder,
    guard: Mutex<Child>,
}

impl PodmanService {
    /// Starts the service and says so; none if Podman is not installed.
    pub(super) async fn start(
        waiting: &Waiting,
        events: &Events,
    ) -> Result<Option<Self>, EngineError> {
        if !is_installed("podman") {
            return Ok(None);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let service = Self::spawn().map_err(|error| failed(&error.to_string()))?;
            let version = waiting.begin("Podman to start").until(service.version()).await?;
            match version {
                Ok(version) => {
                    events.send(Event::EngineStarted { engine: format!("Podman {version}") });
                    return Ok(Some(service));
                }
                Err(EngineError::Endpoint(why)) if why.contains(RACE) && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn spawn() -> io::Result<Self> {
        let folder = SocketFolder::create()?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { folder, guard: Mutex::new(guard) })
    }

    pub(super) fn url(&self) -> String {
        self.folder.url()
    }

    /// Ends the service, and waits for it.
    pub(super) fn end(&self) {
        let mut guard = self.guard();
        drop(guard.stdin.take());
        drop(guard.wait());
    }

    fn guard(&self) -> MutexGuard<'_, Child> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of Podman, once it listens.
    async fn version(&self) -> Result<String, EngineError> {
        while UnixStream::connect(self.folder.socket()).is_err() {
            if self.guard().try_wait().is_ok_and(|status| status.is_some()) {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(failed(log.trim().lines().last().unwrap_or("it ended at once")));
            }
            tokio::time::sleep(POLL).await;
        }
        let timeout = CALL_TIMEOUT.as_secs();
        let client = Docker::connect_with_socket(&self.url(), timeout, API_DEFAULT_VERSION)?;
        Ok(client.version().await?.version.unwrap_or_default())
    }
}

fn failed(message: &str) -> EngineError {
    EngineError::Endpoint(format!(
        "no Docker engine answers, and Podman cannot be used in its place: '{NAME}' failed: \
         {message}"
    ))
}

impl Drop for PodmanService {
    fn drop(&mut self) {
        self.end();
    }
}
