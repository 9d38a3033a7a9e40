//! A real registry on a free port, with or without a password.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::token_server::TokenServer;
use crate::tool;
use crate::workspace::wait_until;

/// A registry that ends with the test.
#[derive(Debug)]
pub struct Registry {
    address: String,
    dir: TempDir,
    process: Option<Child>,
}

impl Registry {
    /// One that lets everybody in.
    pub fn start() -> Self {
        Self::prepared().started("", "")
    }

    /// One that lets one user in.
    pub fn start_with_password(user: &str, password: &str) -> Self {
        let hash = bcrypt::hash(password, 4).expect("a hash");
        let registry = Self::prepared();
        let file = registry.dir.path().join("htpasswd");
        fs::write(&file, format!("{user}:{hash}\n")).expect("a file");
        let auth = format!("auth:\n  htpasswd:\n    realm: tests\n    path: {}\n", file.display());
        registry.started("", &auth)
    }

    /// One that lets one user in, for a token of another server, as public registries do.
    pub fn start_with_tokens(user: &str, password: &str) -> Self {
        let registry = Self::prepared();
        let auth = TokenServer::start(registry.dir.path(), user, password);
        registry.started("", &auth)
    }

    /// One that lets everybody in, and delete.
    pub fn start_with_deletion() -> Self {
        Self::prepared().started("  delete: {enabled: true}\n", "")
    }

    fn prepared() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { address, dir, process: None }
    }

    fn started(mut self, storage: &str, auth: &str) -> Self {
        let data = self.dir.path().join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n{storage}  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {}\n{auth}",
            data.display(),
            self.address
        );
        fs::write(self.dir.path().join("config.yml"), config).expect("a file");
        self.restart();
        self
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts it on its old port, with all that it held.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn restart(&mut self) {
        let process = Command::new(tool("usr/bin/docker-registry"))
            .arg("serve")
            .arg(self.dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("the registry starts"));
        wait_until("the registry", || TcpStream::connect(&self.address).is_ok());
    }

    /// Ends it; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// The digest of a manifest, as the registry tells it; none if it has none.
    pub fn digest(&self, image: &str, tag: &str) -> Option<String> {
        let accepted = "application/vnd.docker.distribution.manifest.v2+json, \
                        application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.oci.image.index.v1+json";
        let lines = self.request("HEAD", image, tag, accepted).lines().map_while(Result::ok);
        lines
            .filter_map(|line| Some(line.split_once(": ")?.1.to_owned()))
            .find(|value| value.starts_with("sha256:"))
    }

    /// The index of the images for several platforms.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn index(&self, image: &str, tag: &str) -> Value {
        let accepted = "application/vnd.oci.image.index.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json";
        let mut response = String::new();
        let mut reader = self.request("GET", image, tag, accepted);
        reader.read_to_string(&mut response).expect("the registry answers");
        let (_, body) = response.split_once("\r\n\r\n").expect("a response");
        serde_json::from_str(body).expect("JSON")
    }

    /// A manifest as it is.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn manifest(&self, image: &str, tag: &str) -> String {
        let accepted = "application/vnd.docker.distribution.manifest.v2+json, \
                        application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.oci.image.index.v1+json";
        let mut response = String::new();
        let mut reader = self.request("GET", image, tag, accepted);
        reader.read_to_string(&mut response).expect("the registry answers");
        let (_, body) = response.split_once("\r\n\r\n").expect("a response");
        body.to_owned()
    }

    /// The tags of an image.
    pub fn tags(&self, image: &str) -> Vec<String> {
        let mut connection = TcpStream::connect(&self.address).expect("the registry answers");
        let host = &self.address;
        write!(connection, "GET /v2/{image}/tags/list HTTP/1.0\r\nHost: {host}\r\n\r\n")
            .expect("the registry reads");
        let mut response = String::new();
        connection.read_to_string(&mut response).expect("the registry answers");
        let (_, body) = response.split_once("\r\n\r\n").expect("a response");
        let list: Value = serde_json::from_str(body).expect("JSON");
        let tags = list["tags"].as_array().into_iter().flatten();
        tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
    }

    /// Writes a manifest or an index under a tag.
    ///
    /// # Panics
    ///
    /// If the registry does not take it.
    pub fn put_manifest(&self, image: &str, tag: &str, manifest: &Value) {
        let media_type = manifest["mediaType"].as_str().expect("a media type");
        self.put_manifest_as(image, tag, media_type, manifest);
    }

    /// The same for one that need not say its own media type.
    ///
    /// # Panics
    ///
    /// If the registry does not take it.
    pub fn put_manifest_as(&self, image: &str, tag: &str, media_type: &str, manifest: &Value) {
        let body = manifest.to_string();
        let head = format!("Content-Type: {media_type}\r\nContent-Length: {}\r\n", body.len());
        let answer = self.change("PUT", image, tag, &format!("{head}\r\n{body}"));
        assert!(answer.starts_with("HTTP/1.0 201"), "{answer}");
    }

    /// Deletes the manifest of a digest.
    ///
    /// # Panics
    ///
    /// If the registry does not.
    pub fn delete(&self, image: &str, digest: &str) {
        let answer = self.change("DELETE", image, digest, "\r\n");
        assert!(answer.starts_with("HTTP/1.0 202"), "{answer}");
    }

    fn change(&self, method: &str, image: &str, tag: &str, rest: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).expect("the registry answers");
        let host = &self.address;
        write!(
            connection,
            "{method} /v2/{image}/manifests/{tag} HTTP/1.0\r\nHost: {host}\r\n{rest}"
        )
        .expect("the registry reads");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("the registry answers");
        answer
    }

    fn request(
        &self,
        method: &str,
        image: &str,
        tag: &str,
        accepted: &str,
    ) -> BufReader<TcpStream> {
        let mut connection = TcpStream::connect(&self.address).expect("the registry answers");
        write!(
            connection,
            "{method} /v2/{image}/manifests/{tag} HTTP/1.0\r\nHost: {}\r\n\
             Accept: {accepted}\r\n\r\n",
            self.address
        )
        .expect("the registry reads");
        BufReader::new(connection)
    }

    /// A second address of it, at which the first `failures` manifests are
    /// answered with 500.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn flaky(&self, failures: usize) -> Flaky {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let left = Arc::new(AtomicUsize::new(failures));
        let (registry, shared) = (self.address.clone(), Arc::clone(&left));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (registry, left) = (registry.clone(), Arc::clone(&shared));
                thread::spawn(move || pass(connection, &registry, &left));
            }
        });
        Flaky { address, left }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A registry that fails now and then.
#[derive(Debug)]
pub struct Flaky {
    /// `host:port`.
    pub address: String,
    left: Arc<AtomicUsize>,
}

impl Flaky {
    /// How many failures are still to come.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

/// How what a client says begins that wants TLS.
const TLS_HANDSHAKE: u8 = 22;

/// What a registry answers that has none. An engine with containerd's store then asks without.
const WITHOUT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\n";

/// Passes one request on, and says that the connection ends after it.
fn pass(client: TcpStream, registry: &str, left: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    if reader.fill_buf().ok()?.first() == Some(&TLS_HANDSHAKE) {
        return (&client).write_all(WITHOUT_TLS).ok();
    }
    reader.read_line(&mut head).ok()?;
    let is_manifest = head.starts_with("PUT ") && head.contains("/manifests/");
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        if !line.to_lowercase().starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut client = client;
    let take = |left: usize| left.checked_sub(1);
    if is_manifest && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
        let answer =
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(answer).ok();
    }
    let mut server = TcpStream::connect(registry).ok()?;
    write!(server, "{head}Connection: close\r\n\r\n").ok()?;
    let mut upstream = server.try_clone().ok()?;
    thread::spawn(move || {
        drop(std::io::copy(&mut reader, &mut upstream));
        drop(upstream.shutdown(Shutdown::Write));
    });
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    client.write_all(&answer).ok()?;
    client.shutdown(Shutdown::Both).ok()
}

/// A registry that lets everybody in and takes nothing.
#[derive(Debug)]
pub struct Refusing {
    /// `host:port`.
    pub address: String,
}

impl Refusing {
    /// One that answers whatever brings something with a status and a body; without a
    /// status it hangs up whatever it is asked.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start(status: Option<&'static str>, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || drop(refuse(&client, status, body)));
            }
        });
        Self { address }
    }
}

/// Answers one request after another.
fn refuse(client: &TcpStream, status: Option<&str>, body: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    if status.is_some() && reader.fill_buf()?.first() == Some(&TLS_HANDSHAKE) {
        return (&mut &*client).write_all(WITHOUT_TLS);
    }
    loop {
        let head: Vec<String> =
            reader.by_ref().lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let Some(request) = head.first() else { return Ok(()) };
        let (status, body) = match status {
            None => return Ok(()),
            _ if request.starts_with("GET /v2/ ") => ("200 OK", ""),
            _ if request.starts_with("HEAD ") => ("404 Not Found", ""),
            Some(status) => (status, body),
        };
        let length = body.len();
        write!(&mut &*client, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    }
}
