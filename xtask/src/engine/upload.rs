//! A context on its way to the engine, as an archive that is made while it is sent.
//!
//! To an engine behind a local socket it goes as it is, to others compressed, as quickly as
//! that can be done. On a link of 100 Mbit/s text then takes two thirds of the time; on one
//! of 1 Gbit/s an engine unpacks so slowly that it takes a third more (the `far` benchmark).
//! Who builds over a network is nearer to the first.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc::{self, Sender};
use xtask_core::context::archive;
use xtask_core::context::build_context::Context;

use super::CONTEXT_MARK;

/// Big enough that the channel costs nothing beside the copying.
const CHUNK: usize = 256 * 1024;
const CHUNKS_IN_FLIGHT: usize = 4;

/// Makes the archive on a thread of its own while it is sent; says when it `is_sent`.
pub(crate) fn stream(
    context: Context,
    is_local: bool,
    is_sent: impl Fn() + Send + 'static,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        let out = io::BufWriter::with_capacity(CHUNK, Link(sender.clone()));
        let written = if is_local {
            archive::write(&context, out)
        } else {
            let mut out = GzEncoder::new(out, Compression::fast());
            archive::write(&context, &mut out).and_then(|()| out.finish()?.flush())
        };
        match written {
            Ok(()) => is_sent(),
            Err(error) => {
                // A stream that merely ends would look complete to the engine.
                let marked = io::Error::new(error.kind(), format!("{CONTEXT_MARK}{error}"));
                drop(sender.blocking_send(Err(marked)));
            }
        }
    });
    receiver
}

struct Link(Sender<io::Result<Bytes>>);

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
