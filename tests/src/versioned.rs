//! The engine as one of other versions of the API: it takes no request without a version but a
//! ping, and none with a version that is too old or too new for it, in Docker's words. What it
//! takes goes to the engine that the tests use, by whatever version that has.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::detour::pass_on;

/// It answers until the test ends.
#[derive(Debug)]
pub struct VersionedEngine {
    dir: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

/// What it takes.
#[derive(Clone, Debug)]
struct Versions {
    oldest: (u32, u32),
    newest: (u32, u32),
    is_told: bool,
}

impl VersionedEngine {
    /// Takes these versions and those in between.
    pub fn start(oldest: &str, newest: &str) -> Self {
        Self::started(oldest, newest, true)
    }

    /// Like one behind a proxy that drops the header with the version.
    pub fn start_untold(oldest: &str, newest: &str) -> Self {
        Self::started(oldest, newest, false)
    }

    fn started(oldest: &str, newest: &str, is_told: bool) -> Self {
        let numbers = |text: &str| numbers(text).expect("a version");
        let versions = Versions { oldest: numbers(oldest), newest: numbers(newest), is_told };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let (requests, refused) = (Arc::default(), Arc::default());
        let engine = Self { dir, requests: Arc::clone(&requests), refused: Arc::clone(&refused) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (versions, requests) = (versions.clone(), Arc::clone(&requests));
                let refused = Arc::clone(&refused);
                // A client that goes away is the end of it.
                thread::spawn(move || drop(serve(client, &versions, &requests, &refused)));
            }
        });
        engine
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }

    /// The requests since this was asked last, each as its method and path without the query.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }

    /// The requests that it refused.
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().expect("no panic").clone()
    }
}

/// Connections have one request each: the tool closes them.
fn serve(
    mut client: UnixStream,
    versions: &Versions,
    requests: &Mutex<Vec<String>>,
    refused: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        line.extend(byte);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.splitn(3, ' ');
    let method = words.next().unwrap_or_default();
    let (path, protocol) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let bare = path.split('?').next().unwrap_or_default();
    requests.lock().expect("no panic").push(format!("{method} {bare}"));
    if path == "/_ping" {
        let (major, minor) = versions.newest;
        let version = if versions.is_told {
            format!("Api-Version: {major}.{minor}\r\n")
        } else {
            String::new()
        };
        return write!(client, "HTTP/1.1 200 OK\r\n{version}Content-Length: 2\r\n\r\nOK");
    }
    match call(path, versions) {
        Ok(call) => pass_on(client, format!("{method} {call} {protocol}").as_bytes()),
        Err(message) => {
            refused.lock().expect("no panic").push(format!("{method} {bare}"));
            let body = format!("{{\"message\":\"{message}\"}}");
            let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n";
            write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
            io::copy(&mut client, &mut io::sink()).map(drop)
        }
    }
}

/// A path without its version, or why it is refused.
fn call<'p>(path: &'p str, versions: &Versions) -> Result<&'p str, String> {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        Some((version, numbers(version)?))
    });
    let Some((text, version)) = versioned else {
        return Err("a version of the API is required".to_owned());
    };
    let Versions { oldest, newest, .. } = versions;
    if version > *newest {
        return Err(format!(
            "client version {text} is too new. Maximum supported API version is {}.{}",
            newest.0, newest.1
        ));
    }
    if version < *oldest {
        return Err(format!(
            "client version {text} is too old. Minimum supported API version is {}.{}, please \
             upgrade your client to a newer version",
            oldest.0, oldest.1
        ));
    }
    Ok(&path["/v".len() + text.len()..])
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
