//! A BuildKit session: a second connection, over which the engine requests the files of a
//! context, registry credentials and secrets by gRPC.
//!
//! It starts as an HTTP request with an upgrade, or, where a builder is, as a call that carries the
//! bytes of a connection. The client crate supports sessions, but not the file sync service, so
//! they are implemented here, for Unix sockets and TCP without TLS.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use futures_util::stream;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{TcpStream, UnixStream};
use tonic::metadata::AsciiMetadataKey;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use xtask_core::workspace::registry_config::DOCKER_HUB;

use crate::engine::address::{Address, Socket};
use crate::engine::content::{self, ContentService};
use crate::engine::credentials::{HUB_SERVER, Logins};
use crate::engine::exported_image::{self, ExportedImage};
use crate::engine::file_sync::FileSyncService;
use crate::engine::mounts::{AgentService, Mounts, SecretService};
use crate::engine::unique_id::unique_id;

/// h2 treats many small unread frames as an attack, in proportion to this size. The engine sends
/// a small request for every file that it needs.
const WINDOW: u32 = 64 << 20;

const MAX_RESPONSE_HEAD: usize = 64 << 10;

/// How the names of the headers begin by which a session announces itself.
const PREFIX: &str = "x-docker-expose-session-";

/// So much of a session is in one message of a call, in bytes.
const MESSAGE: usize = 32 << 10;

/// What a session serves.
#[derive(Default)]
pub(crate) struct Services {
    pub(crate) files: Option<FileSyncService>,
    pub(crate) logins: Logins,
    pub(crate) mounts: Mounts,
    /// The bases that a builder does not have, and build caches.
    pub(super) content: Option<ContentService>,
    /// Where a builder sends the image.
    pub(super) export: Option<ExportedImage>,
}

impl Services {
    /// The gRPC methods that are announced to the engine.
    fn methods(&self) -> Vec<&'static str> {
        let mut methods = vec!["/moby.filesync.v1.Auth/Credentials"];
        if self.files.is_some() {
            methods.push("/moby.filesync.v1.FileSync/DiffCopy");
        }
        if !self.mounts.is_empty() {
            methods.extend([
                "/moby.buildkit.secrets.v1.Secrets/GetSecret",
                "/moby.sshforward.v1.SSH/CheckAgent",
                "/moby.sshforward.v1.SSH/ForwardAgent",
            ]);
        }
        if self.content.is_some() {
            methods.extend(content::METHODS);
        }
        if self.export.is_some() {
            methods.push(exported_image::METHOD);
        }
        methods
    }

    /// How a session announces itself. The engine caches files under the `key`.
    fn headers(&self, id: &str, key: &str) -> Vec<(&'static str, String)> {
        let own = [("uuid", id), ("name", "xtask"), ("sharedkey", key)];
        let own = own.into_iter().map(|(name, value)| (name, value.to_owned()));
        let methods = self.methods().into_iter();
        own.chain(methods.map(|method| ("grpc-method", method.to_owned()))).collect()
    }
}

/// An open session. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// A duplicate of the server's handle.
    connection: OwnedFd,
    id: String,
}

impl Session {
    /// Opens a session with an engine.
    pub(crate) async fn open(address: &Address, key: &str, services: Services) -> io::Result<Self> {
        let path = address.path("/session");
        match &address.socket {
            Socket::Unix(socket) => {
                let stream = UnixStream::connect(socket).await?;
                Self::start(stream, &path, key, services).await
            }
            Socket::Tcp(host) => {
                let stream = TcpStream::connect(host).await?;
                stream.set_nodelay(true)?;
                Self::start(stream, &path, key, services).await
            }
        }
    }

    async fn start(
        mut stream: impl AsyncRead + AsyncWrite + Connected + AsFd + Unpin + Send + 'static,
        path: &str,
        key: &str,
        services: Services,
    ) -> io::Result<Self> {
        let id = unique_id();
        let mut headers = String::new();
        for (name, value) in services.headers(&id, key) {
            headers.push_str(&format!("{PREFIX}{name}: {value}\r\n"));
        }
        upgrade(&mut stream, path, &headers).await?;
        Self::serve(stream, id, services)
    }

    /// Opens a session by a call of BuildKit's own API, as a builder has no other.
    pub(super) fn open_by_call(
        mut client: ControlClient<Channel>,
        key: &str,
        services: Services,
    ) -> io::Result<Self> {
        let id = unique_id();
        let headers = services.headers(&id, key);
        let (here, served) = UnixStream::pair()?;
        let session = Self::serve(served, id, services)?;
        let (from_server, mut to_server) = here.into_split();
        let mut request = Request::new(stream::unfold(from_server, next_message));
        for (name, value) in headers {
            let name = format!("{PREFIX}{name}");
            if let (Ok(name), Ok(value)) = (name.parse::<AsciiMetadataKey>(), value.parse()) {
                request.metadata_mut().append(name, value);
            }
        }
        // If it ends early, the build returns the builder's error.
        tokio::spawn(async move {
            let Ok(response) = client.session(request).await else { return };
            let mut messages = response.into_inner();
            while let Ok(Some(message)) = messages.message().await
                && to_server.write_all(&message.data).await.is_ok()
            {}
        });
        Ok(session)
    }

    fn serve(
        stream: impl AsyncRead + AsyncWrite + Connected + AsFd + Unpin + Send + 'static,
        id: String,
        services: Services,
    ) -> io::Result<Self> {
        let connection = stream.as_fd().try_clone_to_owned()?;
        let Services { files, logins, mounts, content, export } = services;
        let server = Server::builder()
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .add_service(HealthServer::new(HealthService))
            .add_service(AuthServer::new(AuthService(logins)))
            .add_optional_service(files.map(FileSyncServer::new))
            .add_service(SecretsServer::new(SecretService(mounts.clone())))
            .add_service(SshServer::new(AgentService(mounts)))
            .add_optional_service(content)
            .add_optional_service(export.map(FileSendServer::new))
            .serve_with_incoming(stream::iter([Ok::<_, io::Error>(stream)]));
        // It ends with the connection. If it ends early, the build returns the engine's error.
        tokio::spawn(async { drop(server.await) });
        Ok(Self { connection, id })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// What the server of a session sends next, as a message.
async fn next_message(mut server: OwnedReadHalf) -> Option<(BytesMessage, OwnedReadHalf)> {
    let mut data = vec![0; MESSAGE];
    let read = server.read(&mut data).await.ok().filter(|read| *read > 0)?;
    data.truncate(read);
    Some((BytesMessage { data }, server))
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = shutdown(&self.connection, Shutdown::Both);
    }
}

/// Makes a connection one for gRPC, by an HTTP request with these `headers`.
pub(crate) async fn upgrade(
    connection: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    headers: &str,
) -> io::Result<()> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
         Content-Length: 0\r\n{headers}\r\n"
    );
    connection.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is for the gRPC server.
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await?);
        if head.len() > MAX_RESPONSE_HEAD {
            break;
        }
    }
    if head.starts_with(b"HTTP/1.1 101") {
        return Ok(());
    }
    Err(io::Error::other(format!("the engine refused {path}")))
}

struct HealthService;

#[tonic::async_trait]
impl Health for HealthService {
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

struct AuthService(Logins);

/// If the client fetches no tokens, the engine does, with the client's credentials.
#[tonic::async_trait]
impl Auth for AuthService {
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

    #[tokio::test]
    async fn docker_hub_s_credentials_are_found_under_all_names_that_engines_use() {
        let login = DockerCredentials {
            username: Some("me".to_owned()),
            password: Some("secret".to_owned()),
            ..DockerCredentials::default()
        };
        let logins = AuthService(Logins::from([(DOCKER_HUB.to_owned(), login)]));
        for host in ["docker.io", "registry-1.docker.io", HUB_SERVER] {
            let request = Request::new(CredentialsRequest { host: host.to_owned() });
            let response = logins.credentials(request).await.unwrap().into_inner();
            assert_eq!((response.username.as_str(), response.secret.as_str()), ("me", "secret"));
        }
    }
}
