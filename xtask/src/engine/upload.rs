//! A context as a tar archive that is written while it is sent.
//!
//! A local socket gets it uncompressed, any other endpoint with the fastest gzip level. On a
//! link of 100 Mbit/s text then takes two thirds of the time; on one of 1 Gbit/s it takes a
//! third more, because engines decompress so slowly (the `far` benchmark). Builds over a network
//! are closer to the first case.

use std::error::Error as StdError;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc::{self, Sender};
use xtask_core::context::archive;
use xtask_core::context::build_context::Context;

use crate::engine::meter::Meter;

/// Large enough to make the channel's cost negligible.
const CHUNK: usize = 256 * 1024;
const CHUNKS_IN_FLIGHT: usize = 4;

/// An error that ended the archive. Its type tells it from errors of the connection, wherever
/// it ends up in the HTTP client's chain of errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ContextError(io::Error);

impl ContextError {
    pub(crate) fn wrap(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }

    /// Finds it in one link of a chain: `io::Error` has what it wraps in a place of its own.
    pub(crate) fn find<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        let wrapped = error.downcast_ref::<io::Error>()?.get_ref()?;
        wrapped.downcast_ref()
    }
}

/// Writes the archive on a thread of its own; calls `on_sent` at its end. The `meter` counts it
/// before it is compressed.
pub(crate) fn stream(
    context: Context,
    is_local: bool,
    meter: Arc<Meter>,
    on_sent: impl Fn() + Send + 'static,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        let out = io::BufWriter::with_capacity(CHUNK, ChannelWriter(sender.clone()));
        let written = if is_local {
            archive::write(&context, Metered { out, meter: &meter })
        } else {
            let mut out = GzEncoder::new(out, Compression::fast());
            archive::write(&context, Metered { out: &mut out, meter: &meter })
                .and_then(|()| out.finish()?.flush())
        };
        match written {
            Ok(()) => on_sent(),
            // A stream that merely ends would look complete to the engine.
            Err(error) => drop(sender.blocking_send(Err(ContextError::wrap(error)))),
        }
    });
    receiver
}

struct Metered<'m, W> {
    out: W,
    meter: &'m Meter,
}

impl<W: Write> Write for Metered<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.meter.add(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct ChannelWriter(Sender<io::Result<Bytes>>);

impl Write for ChannelWriter {
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
