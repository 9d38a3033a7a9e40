//! A way to the engine on which some requests are answered otherwise.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;

use crate::engine::engine_socket;

/// What is said to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing, for ever; what is sent is not even taken.
    Never,
    /// The beginning of an answer, and then nothing, for ever.
    Begun(Vec<Piece>),
    /// A status and a body.
    Whole(&'static str, String),
}

/// A piece of an answer.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A text.
    Text(String),
    /// So many letters.
    Letters(usize),
}

/// It answers until the test ends.
#[derive(Debug)]
pub struct Detour {
    dir: TempDir,
}

impl Detour {
    /// Answers requests whose first line has a text in it. All else goes to the engine that
    /// the tests use.
    pub fn start(request: &str, answer: Answer) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let rule = Arc::new((request.to_owned(), answer));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let rule = Arc::clone(&rule);
                // A client that goes away is the end of it.
                thread::spawn(move || drop(serve(client, &rule.0, &rule.1)));
            }
        });
        Self { dir }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }
}

fn serve(mut client: UnixStream, request: &str, answer: &Answer) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.contains(&b'\n') {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !String::from_utf8_lossy(&head).contains(request) {
        return pass_on(client, &head);
    }
    let taken = client.try_clone()?;
    match answer {
        Answer::Never => thread::park(),
        Answer::Begun(pieces) => {
            thread::spawn(move || take(taken));
            write!(client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in pieces {
                send(&mut client, piece)?;
            }
            thread::park();
        }
        Answer::Whole(status, body) => {
            thread::spawn(move || take(taken));
            let length = body.len();
            write!(client, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")?;
        }
    }
    Ok(())
}

fn send(client: &mut impl Write, piece: &Piece) -> io::Result<()> {
    let mut chunk = |bytes: &[u8]| {
        write!(client, "{:x}\r\n", bytes.len())?;
        client.write_all(bytes)?;
        client.write_all(b"\r\n")
    };
    match piece {
        Piece::Text(text) => chunk(text.as_bytes()),
        Piece::Letters(count) => {
            let letters = vec![b'x'; 1 << 16];
            let mut left = *count;
            while left > 0 {
                let now = left.min(letters.len());
                chunk(&letters[..now])?;
                left -= now;
            }
            Ok(())
        }
    }
}

fn take(mut client: UnixStream) {
    drop(io::copy(&mut client, &mut io::sink()));
}

/// Passes a request on that begins with `head`, and the answer back.
pub(crate) fn pass_on(client: UnixStream, head: &[u8]) -> io::Result<()> {
    let mut engine = UnixStream::connect(engine_socket())?;
    engine.write_all(head)?;
    let (mut from_client, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || {
        drop(io::copy(&mut from_client, &mut to_engine));
        drop(to_engine.shutdown(Shutdown::Write));
    });
    let mut client = client;
    io::copy(&mut engine, &mut client)?;
    client.shutdown(Shutdown::Write)
}
