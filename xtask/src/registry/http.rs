//! HTTP requests on connections that are used again, to any number of servers.
//!
//! As for Docker, `localhost` and loopback addresses need no TLS. All other servers do, with a
//! certificate of a CA that this machine knows, or that `/etc/docker/certs.d/HOST/` has.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::engine::host_and_port;

/// The bytes per second at which a server must at least take what is sent.
const SLOWEST: u64 = 1 << 20;

/// The largest body that is read or sent, in bytes.
pub(crate) const MAX_BODY: usize = 32 << 20;

/// A server: whether it needs TLS, and `HOST[:PORT]`.
type Origin = (bool, String);

/// Connections to servers.
pub(super) struct Http {
    /// How long a server may take for a connection, to answer, or to go on.
    patience: Duration,
    idle: Mutex<HashMap<Origin, Vec<SendRequest<Full<Bytes>>>>>,
    /// By `HOST[:PORT]`, which certificates count.
    tls: Mutex<HashMap<String, Arc<ClientConfig>>>,
}

/// An answer, with its body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Http {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, idle: Mutex::default(), tls: Mutex::default() }
    }

    /// Sends a request, whose URI is a whole one.
    ///
    /// # Errors
    /// There is no answer, in words.
    pub(super) async fn send(&self, request: &Request<Full<Bytes>>) -> Result<Answer, String> {
        let origin = origin(request.uri())?;
        // A server closes a connection that is idle for long: that is no failure.
        while let Some(idle) = self.take(&origin) {
            if let Ok(answer) = self.exchange(idle, &origin, request).await {
                return Ok(answer);
            }
        }
        let connection = self.within(Duration::ZERO, self.connect(&origin)).await??;
        self.exchange(connection, &origin, request).await
    }

    fn take(&self, origin: &Origin) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(origin)?;
        connections.retain(|connection| !connection.is_closed());
        connections.pop()
    }

    async fn exchange(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        origin: &Origin,
        request: &Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        let mut sent = Request::new(request.body().clone());
        *sent.method_mut() = request.method().clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *sent.uri_mut() = path.parse().map_err(|error| format!("{path}: {error}"))?;
        *sent.headers_mut() = request.headers().clone();
        let agent = concat!("cargo-xtask/", env!("CARGO_PKG_VERSION"));
        for (name, value) in [(HOST, origin.1.as_str()), (USER_AGENT, agent)] {
            let value = value.parse().map_err(|_| format!("{value} is no host"))?;
            sent.headers_mut().insert(name, value);
        }
        let size = sent.body().size_hint().exact().unwrap_or_default();
        let sending = Duration::from_secs(size / SLOWEST);
        let exchange = async {
            connection.ready().await.map_err(|error| error.to_string())?;
            connection.send_request(sent).await.map_err(|error| error.to_string())
        };
        let response = self.within(sending, exchange).await??;
        let (head, body) = response.into_parts();
        let body = self.read(Limited::new(body, MAX_BODY)).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(origin.clone()).or_default().push(connection);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Waits as long as a server may take, and for what it takes to send something.
    async fn within<T>(
        &self,
        sending: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, String> {
        let slow = |_| format!("no answer within {} seconds", self.patience.as_secs());
        timeout(self.patience + sending, work).await.map_err(slow)
    }

    /// A body, which may take as long as it goes on.
    async fn read(&self, mut body: Limited<Incoming>) -> Result<Bytes, String> {
        let mut bytes = BytesMut::new();
        while let Some(frame) = self.within(Duration::ZERO, body.frame()).await? {
            if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes.freeze())
    }

    async fn connect(
        &self,
        (is_tls, authority): &Origin,
    ) -> Result<SendRequest<Full<Bytes>>, String> {
        let (host, port) = host_and_port(authority);
        let default = if *is_tls { 443 } else { 80 };
        let port = port.and_then(|port| port.parse().ok()).unwrap_or(default);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        drop(stream.set_nodelay(true));
        if !is_tls {
            return shake_hands(stream).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(self.tls(authority)?);
        let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        shake_hands(stream).await
    }

    fn tls(&self, authority: &str) -> Result<Arc<ClientConfig>, String> {
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.get(authority) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(read_certificates(authority)?);
        known.insert(authority.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

fn origin(uri: &Uri) -> Result<Origin, String> {
    let authority = uri.authority().ok_or_else(|| format!("{uri} names no server"))?;
    Ok((uri.scheme_str() == Some("https"), authority.to_string()))
}

/// The beginning of the URLs of a registry.
pub(super) fn base_url(domain: &str) -> String {
    let (host, _) = host_and_port(domain);
    let is_loopback = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let scheme = if is_loopback || host == "localhost" { "http" } else { "https" };
    format!("{scheme}://{domain}")
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (connection, driver) = shaken.map_err(|error| error.to_string())?;
    tokio::spawn(driver);
    Ok(connection)
}

/// Trusts the CAs of the system, and those that engines on this machine trust for a registry.
fn read_certificates(authority: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let folder = Path::new("/etc/docker/certs.d").join(authority);
    for file in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|extension| extension == "crt") {
            let certificates = CertificateDer::pem_file_iter(&file).into_iter().flatten();
            roots.add_parsable_certificates(certificates.flatten());
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_trusted_without_tls() {
        for (domain, url) in [
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("localhost.example", "https://localhost.example"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000"),
            ("ghcr.io", "https://ghcr.io"),
        ] {
            assert_eq!(base_url(domain), url);
        }
    }
}
