//! The engine as one elsewhere: over TCP, on a link of so many bytes a second.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::engine_socket;

/// A way to the engine that the tests use.
#[derive(Debug)]
pub struct Far {
    host: String,
    sent: Arc<AtomicU64>,
}

impl Far {
    /// Takes so many bytes a second; without a number as many as there are.
    ///
    /// # Panics
    ///
    /// If there is no port to be had.
    pub fn start(speed: Option<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = format!("tcp://{}", listener.local_addr().expect("an address"));
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = UnixStream::connect(engine_socket()).expect("the engine");
                let (to_engine, from_engine) = (engine.try_clone().expect("a descriptor"), engine);
                let from_client = client.try_clone().expect("a descriptor");
                let counted = Arc::clone(&counted);
                thread::spawn(move || {
                    carry(from_client, &to_engine, speed, &counted);
                    drop(to_engine.shutdown(Shutdown::Write));
                });
                thread::spawn(move || {
                    carry(from_engine, &client, None, &AtomicU64::new(0));
                    drop(TcpStream::shutdown(&client, Shutdown::Write));
                });
            }
        });
        Self { host, sent }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How many bytes the engine got so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Copies what is said to the other side, no quicker than the link.
fn carry(mut from: impl Read, mut to: impl Write, speed: Option<u64>, counted: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    let (started, mut carried) = (Instant::now(), 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
        let read = read as u64;
        carried += read;
        counted.fetch_add(read, Ordering::Relaxed);
        if let Some(speed) = speed {
            let due = Duration::from_nanos(carried * 1_000_000_000 / speed);
            thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
}
