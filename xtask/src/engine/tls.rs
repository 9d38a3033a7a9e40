//! An engine behind TLS: which certificates count, as for the docker CLI, and what it means if a
//! connection fails.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::engine::authority::host_and_port;
use crate::engine::error::Trouble;

/// The names of the files, as docker has them.
const CA: &str = "ca.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// Which certificates count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The folder of `ca.pem`, `cert.pem` and `key.pem`, of which each may be missing.
    pub(crate) folder: PathBuf,
    /// Whether the engine's certificate is checked.
    pub(crate) is_verified: bool,
}

/// How to connect to an engine behind TLS.
pub(crate) struct Tls {
    /// `HOST:PORT`.
    address: String,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    files: TlsFiles,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificates for the engine at `HOST:PORT`.
    ///
    /// # Errors
    /// A file is missing or cannot be read.
    pub(crate) fn new(address: String, files: TlsFiles) -> Result<Self, String> {
        let (host, _) = host_and_port(&address);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("'{host}' is no name that a certificate can have"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if files.is_verified {
            builder.with_root_certificates(roots(&files.folder.join(CA))?)
        } else {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody)
        };
        let (certificate, key) = (files.folder.join(CERTIFICATE), files.folder.join(KEY));
        let config = if certificate.exists() || key.exists() {
            let certificates = certificates(&certificate)?;
            let key_read = PrivateKeyDer::from_pem_file(&key)
                .map_err(|error| format!("{}: cannot be read: {error}", key.display()))?;
            builder.with_client_auth_cert(certificates, key_read).map_err(|error| {
                format!("{} and {} do not fit: {error}", certificate.display(), key.display())
            })?
        } else {
            builder.with_no_client_auth()
        };
        Ok(Self { address, name, config: Arc::new(config), files })
    }

    /// Connects a client with the engine until one of them ends.
    pub(super) async fn pass_on(&self, client: &mut UnixStream) -> Result<(), Trouble> {
        let connected = TcpStream::connect(&self.address).await;
        let stream = connected.map_err(|error| Trouble::Away(error.to_string()))?;
        drop(stream.set_nodelay(true));
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let connected = connector.connect(self.name.clone(), stream).await;
        let engine = connected.map_err(|error| Trouble::Refused(self.explain(&error)))?;
        let (mut from_engine, mut to_engine) = split(engine);
        let (mut from_client, mut to_client) = client.split();
        let receiving = copy(&mut from_engine, &mut to_client);
        tokio::pin!(receiving);
        let sending = async {
            drop(copy(&mut from_client, &mut to_engine).await);
            drop(to_engine.shutdown().await);
        };
        let received = tokio::select! {
            received = &mut receiving => received,
            // What the engine still sends is passed on.
            () = sending => receiving.await,
        };
        // An engine that wants a certificate says so after the handshake, and may not be heard.
        match received {
            Ok(1..) => Ok(()),
            Err(error) if is_alert(&error) => Err(Trouble::Refused(self.explain(&error))),
            _ if !self.has_certificate() => Err(Trouble::Refused(self.wants_certificate())),
            Ok(0) => Err(Trouble::Refused("it closed the connection".to_owned())),
            Err(error) => Err(Trouble::Refused(error.to_string())),
        }
    }

    fn wants_certificate(&self) -> String {
        let folder = self.files.folder.display();
        format!("it wants a client certificate: {folder} has no {CERTIFICATE} and {KEY}")
    }

    /// What to do about a failed connection.
    fn explain(&self, error: &std::io::Error) -> String {
        let folder = self.files.folder.display();
        let of_certificate = |error: &CertificateError| match error {
            CertificateError::UnknownIssuer if self.files.folder.join(CA).exists() => {
                format!("its certificate is not signed by the CA in {folder}/{CA}")
            }
            CertificateError::UnknownIssuer => format!(
                "its certificate is not signed by a CA that this machine knows, and {folder} has \
                 no {CA}"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name: use that in the address".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            other => format!("its certificate is invalid: {other:?}"),
        };
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(error)) => of_certificate(error),
            Some(rustls::Error::InvalidMessage(_)) => {
                "it does not speak TLS: unset DOCKER_TLS_VERIFY and DOCKER_TLS".to_owned()
            }
            Some(rustls::Error::AlertReceived(alert)) => match alert {
                _ if !self.has_certificate() => self.wants_certificate(),
                AlertDescription::UnknownCA => {
                    format!("it does not know the CA of {folder}/{CERTIFICATE}")
                }
                alert => format!("it does not accept {folder}/{CERTIFICATE} ({alert:?})"),
            },
            _ => error.to_string(),
        }
    }

    fn has_certificate(&self) -> bool {
        self.files.folder.join(CERTIFICATE).exists()
    }
}

fn is_alert(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

/// The CA of the file, or else those of the system.
fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let all = if file.exists() {
        certificates(file)?
    } else {
        rustls_native_certs::load_native_certs().certs
    };
    let (added, _) = roots.add_parsable_certificates(all);
    if added == 0 {
        return Err(format!("{}: has no certificate of a CA", file.display()));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable =
        |error: &dyn fmt::Display| format!("{}: cannot be read: {error}", file.display());
    let text = fs::read(file).map_err(|error| unreadable(&error))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.map_err(|error| unreadable(&error))
}

/// Takes every certificate, as for `DOCKER_TLS` without `DOCKER_TLS_VERIFY` and for contexts with
/// `SkipTLSVerify`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
