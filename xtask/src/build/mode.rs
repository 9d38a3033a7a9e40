//! What a round is for.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use xtask_core::context::archive;
use xtask_core::context::build_context::Context;
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Image;

/// What a round is for.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Images.
    Build,
    /// What the hooks of what is named read: their system calls are written to a file.
    Trace(&'a Path),
    /// What is sent for the images of what is named, which are not built.
    Show(&'a ContextCapture),
}

/// What is sent for images, noted while it is there.
#[derive(Debug, Default)]
pub struct ContextCapture {
    /// Only for this image.
    pub image: Option<String>,
    /// Write the very stream to this file.
    pub tar: Option<PathBuf>,
    /// By name, what is sent.
    pub seen: RefCell<Vec<(String, Context)>>,
}

impl ContextCapture {
    /// Notes what is sent for an image.
    pub fn add(&self, image: &Image, context: Context) -> Result<(), Problem> {
        if self.image.as_ref().is_some_and(|wanted| *wanted != image.name) {
            return Ok(());
        }
        if let Some(path) = &self.tar {
            let problem = |why: String| Problem::of_file(path.display().to_string(), why);
            let unwritten = |error: &io::Error| problem(format!("cannot be written: {error}"));
            let file = File::create(path).map_err(|error| unwritten(&error))?;
            let mut out = Output { file, failure: None };
            let written = archive::write(&context, BufWriter::new(&mut out));
            match (out.failure, written) {
                (Some(error), _) => return Err(unwritten(&error)),
                (None, written) => written.map_err(|error| problem(error.to_string()))?,
            }
        }
        self.seen.borrow_mut().push((image.name.clone(), context));
        Ok(())
    }
}

/// A file, and why it takes no more: who makes an archive blames what goes into it.
struct Output {
    file: File,
    failure: Option<io::Error>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
