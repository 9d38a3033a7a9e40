//! A way to the engine on which answers come late, end too soon, or have wrong bytes in them.
//!
//! What is sent to the engine is never changed, only cut: nothing on the way would notice a wrong
//! byte in a context, as TCP does.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;

use crate::engine::engine_socket;

/// It does harm until it is told to stop.
#[derive(Debug)]
pub struct Saboteur {
    dir: TempDir,
    acts: Arc<AtomicBool>,
    seed: Arc<AtomicU64>,
}

/// What happens to one direction of a connection, after some bytes.
#[derive(Clone, Copy, Debug)]
enum Harm {
    None,
    Delay,
    /// Both directions end.
    Cut,
    /// One byte is another one.
    Garble,
}

impl Saboteur {
    /// Begins to listen. The harm that it does follows from the seed, as far as the connections
    /// come in the same order.
    pub fn start(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let (acts, seed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(seed)));
        let (is_acting, seeds) = (Arc::clone(&acts), Arc::clone(&seed));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut random = Rng::with_seed(seeds.fetch_add(1, Ordering::Relaxed));
                // The client may go away at any time.
                let (to_engine, to_client) = if is_acting.load(Ordering::Relaxed) {
                    (harm(&mut random, false), harm(&mut random, true))
                } else {
                    ((Harm::None, 0), (Harm::None, 0))
                };
                thread::spawn(move || drop(pass_on(client, to_engine, to_client)));
            }
        });
        Self { dir, acts, seed }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }

    /// Passes on what comes from now on as it is, or does harm again, by another seed.
    pub fn act(&self, acts: bool, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
        self.acts.store(acts, Ordering::Relaxed);
    }
}

/// What happens, and after how many bytes: few as often as many. Most connections are left alone,
/// so that commands come to different ends.
fn harm(random: &mut Rng, may_garble: bool) -> (Harm, usize) {
    let harm = match random.u8(..40) {
        0 => Harm::Delay,
        1 => Harm::Cut,
        2 if may_garble => Harm::Garble,
        _ => Harm::None,
    };
    let most = 1 << random.u8(..18);
    (harm, random.usize(..most))
}

fn pass_on(client: UnixStream, there: (Harm, usize), back: (Harm, usize)) -> io::Result<()> {
    let engine = UnixStream::connect(engine_socket())?;
    let (from_client, to_engine) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || drop(copy(from_client, to_engine, there)));
    copy(engine, client, back)
}

fn copy(mut from: UnixStream, mut to: UnixStream, (harm, after): (Harm, usize)) -> io::Result<()> {
    let (mut chunk, mut passed) = (vec![0; 1 << 14], 0);
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let bytes = &mut chunk[..count];
        if (passed..passed + count).contains(&after) {
            let at = after - passed;
            match harm {
                Harm::None => {}
                Harm::Delay => thread::sleep(Duration::from_millis(300)),
                Harm::Cut => {
                    to.write_all(&bytes[..at])?;
                    from.shutdown(Shutdown::Both)?;
                    return to.shutdown(Shutdown::Both);
                }
                Harm::Garble => bytes[at] ^= 1 << (after % 8),
            }
        }
        to.write_all(bytes)?;
        passed += count;
    }
}
