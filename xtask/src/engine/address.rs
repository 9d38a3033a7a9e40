//! Where to connect to an engine without the client crate, and by which version of its API.

use std::path::PathBuf;

use bollard::ClientVersion;

/// Where an engine listens that nobody chose.
pub(super) const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// Where an engine listens. TLS and ssh have a socket on this machine that leads there.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    Unix(PathBuf),
    /// `HOST:PORT`.
    Tcp(String),
}

impl Socket {
    /// None for an endpoint that is neither a socket nor a port.
    pub(crate) fn of_endpoint(endpoint: &str) -> Option<Self> {
        if let Some(path) = endpoint.strip_prefix("unix://") {
            return Some(Self::Unix(path.into()));
        }
        let rest = ["tcp://", "http://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme))?;
        let host = rest.split('/').next().filter(|host| host.contains(':'))?;
        Some(Self::Tcp(host.to_owned()))
    }

    /// The `Host` header.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "docker",
            Self::Tcp(host) => host,
        }
    }
}

/// Where an engine listens, and what it understands.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) socket: Socket,
    pub(crate) version: ClientVersion,
}

impl Address {
    /// The path of a call, as a request has it.
    pub(crate) fn path(&self, call: &str) -> String {
        versioned(self.version, call)
    }
}

/// The path of a call in a version of the API.
pub(super) fn versioned(version: ClientVersion, call: &str) -> String {
    format!("/v{version}{call}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_listen_at_unix_sockets_and_tcp_ports() {
        let socket = |endpoint: &str| match Socket::of_endpoint(endpoint) {
            Some(Socket::Unix(path)) => path.display().to_string(),
            Some(Socket::Tcp(host)) => host,
            None => String::new(),
        };
        assert_eq!(socket("unix:///run/docker.sock"), "/run/docker.sock");
        assert_eq!(socket("tcp://h:2375/"), "h:2375");
        assert_eq!(socket("tcp://[::1]:2375/v1"), "[::1]:2375");
        for other in ["tcp://h", "ssh://h:1"] {
            assert_eq!(socket(other), "", "{other}");
        }
    }
}
