//! An engine behind ssh, reached as the docker CLI does: the system's `ssh` runs
//! `docker system dial-stdio` on the other machine, which connects its streams to the engine there.
//!
//! Keys, jump hosts and shared connections are those of the user's `~/.ssh/config`. Nothing is
//! asked for, as every connection would ask again: keys have to be in an agent.

use tokio::net::UnixStream;
use tokio::process::Command;

use crate::engine::authority::host_and_port;
use crate::engine::dial::dial;
use crate::engine::error::Trouble;

/// What `ssh://[USER@]HOST[:PORT][/SOCKET]` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ssh {
    user: Option<String>,
    host: String,
    port: Option<String>,
    /// The engine's socket on the other machine, if it is not the default one.
    socket: Option<String>,
}

impl Ssh {
    /// Parses what follows `ssh://`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse(rest: &str) -> Result<Self, String> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        if user.as_deref().is_some_and(|user| user.contains(':')) {
            return Err("has a password: use a key in an SSH agent".to_owned());
        }
        let (host, port) = host_and_port(host);
        let is_number = |port: &&str| port.parse::<u16>().is_ok();
        if host.is_empty() || host.starts_with('-') || !port.iter().all(is_number) {
            return Err("is not ssh://[USER@]HOST[:PORT][/SOCKET]".to_owned());
        }
        let socket = (!path.is_empty()).then(|| format!("/{path}"));
        let (host, port) = (host.to_owned(), port.map(str::to_owned));
        Ok(Self { user, host, port, socket })
    }

    fn command(&self) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-T", "-o", "ConnectTimeout=30", "-o", "BatchMode=yes"]);
        if let Some(user) = &self.user {
            ssh.args(["-l", user]);
        }
        if let Some(port) = &self.port {
            ssh.args(["-p", port]);
        }
        ssh.args(["--", &self.host, "docker"]);
        if let Some(socket) = &self.socket {
            // The shell of the other machine reads it.
            ssh.arg(format!("--host=unix://'{}'", socket.replace('\'', "'\\''")));
        }
        ssh.args(["system", "dial-stdio"]);
        ssh
    }

    /// Connects a client with the engine until one of them ends.
    pub(super) async fn pass_on(&self, client: &mut UnixStream) -> Result<(), Trouble> {
        dial(self.command(), &format!("ssh {} docker version", self.host), client).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_who_and_where() {
        let shown = |url: &str| {
            let ssh = Ssh::parse(url)?;
            let command = ssh.command();
            let words = command.as_std().get_args().skip(5).map(|word| word.to_str().unwrap());
            Ok::<_, String>(words.collect::<Vec<_>>().join(" "))
        };
        let run = "docker system dial-stdio";
        for (url, expected) in [
            ("far", format!("-- far {run}")),
            ("me@far:22", format!("-l me -p 22 -- far {run}")),
            ("me@[::1]", format!("-l me -- ::1 {run}")),
            (
                "far/run/x.sock",
                "-- far docker --host=unix://'/run/x.sock' system dial-stdio".into(),
            ),
        ] {
            assert_eq!(shown(url), Ok(expected), "{url}");
        }
        for wrong in ["", "-oProxyCommand=x", "me@", "far:x", "far:99999", "me:secret@far"] {
            assert!(Ssh::parse(wrong).is_err(), "{wrong}");
        }
    }
}
