//! The purpose of a round.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use xtask_core::context::archive;
use xtask_core::context::build_context::Context;
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Image;

use crate::build::bake_folder::BakeFolder;

/// The purpose of a round.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Build images.
    Build,
    /// Build, and write the system calls of the selected components' hooks to this file.
    Trace(&'a Path),
    /// Capture the contexts of the selected components' images instead of building these.
    Show(&'a ContextCapture),
    /// Write what all images would be built from into a folder.
    Export(&'a BakeFolder),
}

/// The contexts of images, captured while `dependency/` and `generated/` exist.
#[derive(Debug, Default)]
pub struct ContextCapture {
    /// The only image to capture.
    pub(crate) image: Option<String>,
    /// The file to write the exact tar stream to.
    pub(crate) tar: Option<PathBuf>,
    /// The captured contexts, with the names of their images.
    pub(crate) captured: RefCell<Vec<(String, Context)>>,
}

impl ContextCapture {
    /// Captures the context of an image, unless another image is selected.
    pub(crate) fn add(&self, image: &Image, context: Context) -> Result<(), Problem> {
        if self.image.as_ref().is_some_and(|wanted| *wanted != image.name) {
            return Ok(());
        }
        if let Some(path) = &self.tar {
            let problem = |message| Problem::of_file(path.display().to_string(), message);
            let unwritten = |error: &io::Error| problem(format!("cannot be written: {error}"));
            let file = File::create(path).map_err(|error| unwritten(&error))?;
            let mut output = TarFile { file, failure: None };
            let written = archive::write(&context, BufWriter::new(&mut output));
            match (output.failure, written) {
                (Some(error), _) => return Err(unwritten(&error)),
                (None, written) => written.map_err(|error| problem(error.to_string()))?,
            }
        }
        self.captured.borrow_mut().push((image.name.clone(), context));
        Ok(())
    }
}

/// A file that remembers its write error: the archive's own error would name the file being
/// added instead.
struct TarFile {
    file: File,
    failure: Option<io::Error>,
}

impl Write for TarFile {
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
