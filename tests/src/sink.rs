//! The docker CLI up to where it sends: which files of a folder it would give to an
//! engine, told without one.
//!
//! The CLI reads `.dockerignore` and walks the folder itself for a classic build. So a
//! socket that takes a context and says that all went well is engine enough, and a
//! folder is judged in some hundredths of a second.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use tempfile::TempDir;

/// Takes what the docker CLI sends.
#[derive(Debug)]
pub struct Sink {
    dir: TempDir,
    contexts: Receiver<Vec<u8>>,
}

impl Sink {
    /// Listens on a socket of its own.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let (sender, contexts) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || answer(&client, &sender));
            }
        });
        Self { dir, contexts }
    }

    /// Every path that a classic build of the folder sends, or what the CLI says instead.
    pub fn sent(&self, folder: &Path) -> Result<BTreeSet<String>, String> {
        let mut docker = Command::new("docker");
        docker.env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("socket").display()));
        docker.env("DOCKER_CONFIG", self.dir.path()).env("DOCKER_BUILDKIT", "0");
        let output = docker.args(["build", "-q"]).arg(folder).output().expect("docker runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let archive = self.contexts.recv().expect("a context");
        let mut archive = tar::Archive::new(&archive[..]);
        let entries = archive.entries().expect("an archive");
        let path = |entry: io::Result<tar::Entry<'_, _>>| {
            let entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            path.trim_end_matches('/').to_owned()
        };
        Ok(entries.map(path).collect())
    }
}

/// Answers one request after another, as an engine does that builds whatever it gets.
fn answer(client: &UnixStream, contexts: &Sender<Vec<u8>>) {
    let mut reader = BufReader::new(client);
    loop {
        let head: Vec<String> =
            reader.by_ref().lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let Some(request) = head.first() else { return };
        let text = match request.split(' ').next() {
            Some("HEAD") => "",
            Some("POST") => {
                contexts.send(read_chunks(&mut reader)).expect("somebody waits");
                "{\"stream\":\"sha256:0\\n\"}\n"
            }
            _ => "OK",
        };
        let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nOSType: linux\r\nContent-Length:";
        let answer = format!("{head} {}\r\n\r\n{text}", text.len());
        if (&mut &*client).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A body in HTTP's chunks.
fn read_chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).expect("a chunk");
        let size = u64::from_str_radix(size.trim(), 16).expect("its size");
        reader.take(size).read_to_end(&mut body).expect("what it says");
        reader.read_line(&mut String::new()).expect("its end");
        if size == 0 {
            return body;
        }
    }
}
