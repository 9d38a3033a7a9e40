//! Reads small files ahead of sending them.
//!
//! Most of the time for a small file is spent waiting for a disk or a network file system.
//! So several threads each read every n-th small file, in order and a bounded number of
//! files ahead. Large files are read by the sender.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use crate::context::build_context::{Context, ContextEntry};
use crate::context::tree::Kind;
use crate::context::verified_reader::{VerifiedReader, changed_while_sending};

const READERS: usize = 4;

/// How many files each thread may be ahead; with [`SMALL`], at most 4 MiB in total.
const AHEAD: usize = 16;

/// The maximum size of a small file, in bytes.
const SMALL: u64 = 64 << 10;

/// The contents of the small files of a context, in order.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    readers: Vec<Receiver<io::Result<Vec<u8>>>>,
    next: usize,
}

impl ReadAhead {
    /// Starts the threads. They end when all files are read, or when this value is dropped.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        context: &'scope Context,
    ) -> Self {
        let readers = (0..READERS).map(|reader| {
            let (sender, receiver) = sync_channel(AHEAD);
            scope.spawn(move || {
                let small = context.items().filter(is_small);
                for item in small.skip(reader).step_by(READERS) {
                    if sender.send(read(&item)).is_err() {
                        return;
                    }
                }
            });
            receiver
        });
        Self { readers: readers.collect(), next: 0 }
    }

    /// The contents of a file if it is small, else `None`. Must be called for every entry of
    /// the context, in order.
    ///
    /// # Errors
    /// The file cannot be read, or changed since it was digested.
    pub(crate) fn take(&mut self, item: &ContextEntry<'_>) -> Option<io::Result<Vec<u8>>> {
        if !is_small(item) {
            return None;
        }
        let reader = &self.readers[self.next % READERS];
        self.next += 1;
        Some(reader.recv().unwrap_or_else(|_| Err(changed_while_sending())))
    }
}

fn is_small(item: &ContextEntry<'_>) -> bool {
    item.entry.kind == Kind::File && item.entry.size() <= SMALL
}

fn read(item: &ContextEntry<'_>) -> io::Result<Vec<u8>> {
    let mut reader = VerifiedReader::open(&item.part.source_path(item.entry))?;
    let mut contents = Vec::new();
    reader.read_to_end(&mut contents)?;
    reader.verify(item.digest)?;
    Ok(contents)
}
