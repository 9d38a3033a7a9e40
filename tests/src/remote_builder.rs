//! A builder of `docker buildx` that is no engine: the BuildKit of another engine, behind a socket
//! at which nothing but BuildKit's own API can be reached.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::engine::docker;

/// The name by which it is known.
pub const NAME: &str = "elsewhere";

const UPGRADE: &[u8] = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n\
    Upgrade: h2c\r\nContent-Length: 0\r\n\r\n";

/// It serves until the test ends.
#[derive(Debug)]
pub struct RemoteBuilder {
    dir: TempDir,
}

impl RemoteBuilder {
    /// Makes the BuildKit of the engine of `OTHER_DOCKER_HOST` one.
    ///
    /// # Panics
    ///
    /// If there is no such engine with a socket, or no docker CLI with buildx.
    pub fn start() -> Self {
        let host = std::env::var("OTHER_DOCKER_HOST").expect("the host of another engine");
        let engine = PathBuf::from(host.strip_prefix("unix://").expect("a socket"));
        let dir = tempfile::tempdir().expect("a temporary folder");
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = engine.clone();
                // A client that goes away is the end of it.
                thread::spawn(move || drop(pass_on(client, &engine)));
            }
        });
        let builder = Self { dir };
        let plugins = builder.dir.path().join("config/cli-plugins");
        fs::create_dir_all(&plugins).expect("a folder");
        symlink(plugin(), plugins.join("docker-buildx")).expect("a link");
        let mut create = Command::new("docker");
        create.args(["buildx", "create", "--name", NAME, "--driver", "remote"]);
        create.arg(format!("unix://{}", socket.display())).stdout(Stdio::null());
        let created = create.env("DOCKER_CONFIG", builder.config()).status();
        assert!(created.expect("docker runs").success(), "the builder is not made");
        builder
    }

    /// For `DOCKER_CONFIG`: it has buildx, which knows the builder.
    pub fn config(&self) -> String {
        self.dir.path().join("config").display().to_string()
    }
}

/// Where the docker CLI has buildx.
fn plugin() -> String {
    let format = "{{range .ClientInfo.Plugins}}{{if eq .Name \"buildx\"}}{{.Path}}{{end}}{{end}}";
    let path = docker(&["info", "--format", format]);
    let path = String::from_utf8_lossy(&path).trim().to_owned();
    assert!(!path.is_empty(), "there is no docker CLI with buildx");
    path
}

fn pass_on(mut client: UnixStream, engine: &PathBuf) -> io::Result<()> {
    let mut buildkit = UnixStream::connect(engine)?;
    buildkit.write_all(UPGRADE)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        buildkit.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let (mut from_client, mut to_buildkit) = (client.try_clone()?, buildkit.try_clone()?);
    thread::spawn(move || {
        drop(io::copy(&mut from_client, &mut to_buildkit));
        drop(to_buildkit.shutdown(Shutdown::Write));
    });
    drop(io::copy(&mut buildkit, &mut client));
    client.shutdown(Shutdown::Both)
}
