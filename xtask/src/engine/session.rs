//! A BuildKit session: a second connection, on which the engine asks us, by gRPC, for
//! the files of a context and for logins.
//!
//! It begins as an HTTP request that is upgraded. The client crate can do that, but serves
//! no files there, so it is spoken here, on a connection of our own: to a local socket, or
//! to a port without TLS.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use futures_util::stream;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use xtask_core::workspace::registry_config::DOCKER_HUB;

use super::Logins;
use crate::engine::credentials::HUB_SERVER;
use crate::engine::file_sync::Files;

/// h2 takes it for an attack if half as much as this, counted generously, waits in small
/// pieces: requests for files are small, and there can be one for each.
const WINDOW: u32 = 64 << 20;

/// An answer with a longer head is none to a request for a session.
const LONGEST_HEAD: usize = 64 << 10;

/// The calls that we answer, as the engine is told; the last one only with files.
const METHODS: [&str; 2] =
    ["/moby.filesync.v1.Auth/Credentials", "/moby.filesync.v1.FileSync/DiffCopy"];

/// Where an engine takes connections of our own.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A local socket.
    Socket(PathBuf),
    /// A host and a port.
    Port(String),
}

impl Address {
    /// Of an endpoint, if we can speak to it.
    pub(crate) fn of(endpoint: &str, has_tls: bool) -> Option<Self> {
        if let Some(path) = endpoint.strip_prefix("unix://") {
            return Some(Self::Socket(path.into()));
        }
        let rest = ["tcp://", "http://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme))?;
        let port = rest.split('/').next().filter(|port| port.contains(':') && !has_tls)?;
        Some(Self::Port(port.to_owned()))
    }

    /// As an HTTP request names it.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Socket(_) => "docker",
            Self::Port(port) => port,
        }
    }
}

/// It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    /// The connection itself: whoever serves it has another handle.
    connection: OwnedFd,
    id: String,
}

impl Session {
    /// Opens one for an engine, which keeps files under a `key`; without files it is for
    /// logins only.
    pub(crate) async fn open(
        address: &Address,
        key: &str,
        files: Option<Files>,
        logins: Logins,
    ) -> io::Result<Self> {
        match address {
            Address::Socket(path) => {
                Self::begin(UnixStream::connect(path).await?, key, files, logins).await
            }
            Address::Port(port) => {
                let stream = TcpStream::connect(port).await?;
                stream.set_nodelay(true)?;
                Self::begin(stream, key, files, logins).await
            }
        }
    }

    async fn begin(
        mut served: impl AsyncRead + AsyncWrite + Connected + AsFd + Unpin + Send + 'static,
        key: &str,
        files: Option<Files>,
        logins: Logins,
    ) -> io::Result<Self> {
        let id = unique_session();
        upgrade(&mut served, &id, key, files.is_some()).await?;
        let connection = served.as_fd().try_clone_to_owned()?;
        let server = Server::builder()
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .add_service(HealthServer::new(Healthy))
            .add_service(AuthServer::new(KnownLogins(logins)))
            .add_optional_service(files.map(FileSyncServer::new))
            .serve_with_incoming(stream::iter([Ok::<_, io::Error>(served)]));
        // It ends with the connection. The engine says what is wrong if it ends early.
        tokio::spawn(async { drop(server.await) });
        Ok(Self { connection, id })
    }

    /// What the engine knows it by.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = shutdown(&self.connection, Shutdown::Both);
    }
}

/// A session id must differ from every other one that the engine knows.
pub(crate) fn unique_session() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("xtask-{}-{}-{count}", std::process::id(), since.as_nanos())
}

async fn upgrade(
    connection: &mut (impl AsyncRead + AsyncWrite + Unpin),
    id: &str,
    key: &str,
    has_files: bool,
) -> io::Result<()> {
    let mut request = format!(
        "POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
         Content-Length: 0\r\nX-Docker-Expose-Session-Uuid: {id}\r\n\
         X-Docker-Expose-Session-Name: xtask\r\nX-Docker-Expose-Session-Sharedkey: {key}\r\n"
    );
    for method in METHODS.iter().take(1 + usize::from(has_files)) {
        request.push_str(&format!("X-Docker-Expose-Session-Grpc-Method: {method}\r\n"));
    }
    request.push_str("\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // By the byte: what follows is for another reader.
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(connection.read_u8().await?);
        if answer.len() > LONGEST_HEAD {
            break;
        }
    }
    if answer.starts_with(b"HTTP/1.1 101") {
        return Ok(());
    }
    Err(io::Error::other("the engine refused a session"))
}

struct Healthy;

#[tonic::async_trait]
impl Health for Healthy {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("list"))
    }

    type WatchStream = stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watch"))
    }
}

struct KnownLogins(Logins);

/// The engine fetches tokens itself, with the credentials, from a client that does not.
#[tonic::async_trait]
impl Auth for KnownLogins {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let domain = match host.as_str() {
            HUB_SERVER | "registry-1.docker.io" => DOCKER_HUB,
            other => other,
        };
        let login = self.0.get(domain).cloned().unwrap_or_default();
        let response = match login.identitytoken {
            Some(token) => CredentialsResponse { username: String::new(), secret: token },
            None => CredentialsResponse {
                username: login.username.unwrap_or_default(),
                secret: login.password.unwrap_or_default(),
            },
        };
        Ok(Response::new(response))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens"))
    }
}

#[cfg(test)]
mod tests {
    use bollard::auth::DockerCredentials;

    use super::*;

    #[test]
    fn connections_of_our_own_need_a_socket_or_a_port_without_tls() {
        let address = |endpoint: &str, has_tls| match Address::of(endpoint, has_tls) {
            Some(Address::Socket(path)) => path.display().to_string(),
            Some(Address::Port(port)) => port,
            None => String::new(),
        };
        assert_eq!(address("unix:///run/docker.sock", true), "/run/docker.sock");
        assert_eq!(address("tcp://h:2375/", false), "h:2375");
        assert_eq!(address("tcp://[::1]:2375/v1", false), "[::1]:2375");
        for (other, has_tls) in [("tcp://h:2376", true), ("tcp://h", false), ("ssh://h:1", false)] {
            assert_eq!(address(other, has_tls), "", "{other}");
        }
    }

    #[tokio::test]
    async fn the_login_for_docker_hub_is_found_under_the_names_that_engines_use() {
        let login = DockerCredentials {
            username: Some("me".to_owned()),
            password: Some("secret".to_owned()),
            ..DockerCredentials::default()
        };
        let logins = KnownLogins(Logins::from([(DOCKER_HUB.to_owned(), login)]));
        for host in ["docker.io", "registry-1.docker.io", HUB_SERVER] {
            let request = Request::new(CredentialsRequest { host: host.to_owned() });
            let answer = logins.credentials(request).await.unwrap().into_inner();
            assert_eq!((answer.username.as_str(), answer.secret.as_str()), ("me", "secret"));
        }
    }
}
