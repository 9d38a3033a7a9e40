//! An engine behind TLS, and the certificates for it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::engine::engine_socket;

/// The engine that the tests use, behind TLS until this is dropped. Clients need a certificate.
#[derive(Debug)]
pub struct TlsEngine {
    address: SocketAddr,
    dir: TempDir,
    _runtime: Runtime,
}

impl TlsEngine {
    /// Makes the certificates, and starts to listen.
    ///
    /// # Panics
    ///
    /// If `openssl` is not there, or there is no free port.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        make_certificates(dir.path());
        let server = dir.path().join("server");
        let ca = CertificateDer::from_pem_file(dir.path().join("ca.pem")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(ca).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let certificate = CertificateDer::from_pem_file(server.join("cert.pem")).expect("one");
        let key = PrivateKeyDer::from_pem_file(server.join("key.pem")).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients.build().expect("a verifier"))
            .with_single_cert(vec![certificate], key)
            .expect("a configuration");
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await.ok()?;
                    let mut engine = UnixStream::connect(engine_socket()).await.ok()?;
                    copy_bidirectional(&mut client, &mut engine).await.ok()
                });
            }
        });
        Self { address, dir, _runtime: runtime }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// A folder with certificates: `client` has all, `none` has nothing, `anonymous` has the CA
    /// alone, and `stranger` has all of another CA.
    pub fn certificates(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn make_certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split(' ')).current_dir(dir);
        let output = openssl.output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
    fs::write(dir.join("extensions"), extensions).expect("a file");
    for name in ["none", "anonymous"] {
        fs::create_dir(dir.join(name)).expect("a folder");
    }
    for (ca, owners) in [("ca", &["server", "client"][..]), ("other", &["stranger"])] {
        openssl(&format!(
            "req -x509 {new_key} -keyout {ca}-key.pem -out {ca}.pem -days 2 -subj /CN={ca}"
        ));
        for owner in owners {
            fs::create_dir(dir.join(owner)).expect("a folder");
            fs::copy(dir.join(format!("{ca}.pem")), dir.join(owner).join("ca.pem"))
                .expect("a file");
            openssl(&format!(
                "req {new_key} -keyout {owner}/key.pem -out {owner}.csr -subj /CN={owner}"
            ));
            openssl(&format!(
                "x509 -req -in {owner}.csr -CA {ca}.pem -CAkey {ca}-key.pem -CAcreateserial \
                 -days 2 -extfile extensions -out {owner}/cert.pem"
            ));
        }
    }
    fs::copy(dir.join("ca.pem"), dir.join("anonymous/ca.pem")).expect("a file");
}
