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
pub(crate) struct ReadAhead<'c> {
    items: Box<dyn Iterator<Item = ContextEntry<'c>> + 'c>,
    readers: Vec<Receiver<io::Result<Vec<u8>>>>,
    next: usize,
}

impl<'c> ReadAhead<'c> {
    /// Starts the threads. They end when all files are read, or when this value is dropped.
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>, context: &'c Context) -> Self
    where
        'c: 'scope,
    {
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
        let readers = readers.collect();
        Self { items: Box::new(context.items()), readers, next: 0 }
    }
}

impl<'c> Iterator for ReadAhead<'c> {
    /// An entry, with its contents if it is a small file. It is an error if a file cannot be
    /// read, or changed since it was digested.
    type Item = (ContextEntry<'c>, io::Result<Option<Vec<u8>>>);

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.items.next()?;
        if !is_small(&item) {
            return Some((item, Ok(None)));
        }
        let reader = &self.readers[self.next % READERS];
        self.next += 1;
        let read = reader.recv().unwrap_or_else(|_| Err(changed_while_sending()));
        Some((item, read.map(Some)))
    }
}

fn is_small(item: &ContextEntry<'_>) -> bool {
    item.entry.kind == Kind::File && item.entry.size() <= SMALL
}

/// All of a file.
pub(crate) fn read(item: &ContextEntry<'_>) -> io::Result<Vec<u8>> {
    let mut reader = VerifiedReader::open(&item.part.source_path(item.entry))?;
    let mut contents = Vec::new();
    reader.read_to_end(&mut contents)?;
    reader.verify(item.digest)?;
    Ok(contents)
}
