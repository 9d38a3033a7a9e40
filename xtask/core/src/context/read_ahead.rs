//! Small files, read ahead of whoever sends them.
//!
//! What small files take is waiting: for a disk, or for somebody else's. So several threads
//! read them, each its share in their order, and are never more than some files ahead. A
//! large file is left to whoever sends it.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use crate::context::build_context::{Context, ContextEntry};
use crate::context::tree::Kind;
use crate::context::verified_reader::{VerifiedReader, changed};

const READERS: usize = 4;

/// How many files each may be ahead; with their size, 4 MiB in all.
const AHEAD: usize = 16;

/// In bytes.
const SMALL: u64 = 64 << 10;

/// The small files of a context, in their order.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    readers: Vec<Receiver<io::Result<Vec<u8>>>>,
    next: usize,
}

impl ReadAhead {
    /// Begins to read. It ends when nobody takes what was read.
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

    /// What is in a file, if it is small; every one must be asked for, in their order.
    ///
    /// # Errors
    /// It cannot be read, or is not what was digested.
    pub(crate) fn take(&mut self, item: &ContextEntry<'_>) -> Option<io::Result<Vec<u8>>> {
        if !is_small(item) {
            return None;
        }
        let reader = &self.readers[self.next % READERS];
        self.next += 1;
        Some(reader.recv().unwrap_or_else(|_| Err(changed())))
    }
}

fn is_small(item: &ContextEntry<'_>) -> bool {
    item.entry.kind == Kind::File && item.entry.size() <= SMALL
}

fn read(item: &ContextEntry<'_>) -> io::Result<Vec<u8>> {
    let mut whole = VerifiedReader::open(&item.part.source(item.entry))?;
    let mut contents = Vec::new();
    whole.read_to_end(&mut contents)?;
    whole.check_end(item.digest)?;
    Ok(contents)
}
