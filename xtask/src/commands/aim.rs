//! What a round is for.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::core::archive;
use crate::core::context::Context;
use crate::core::problem::Problem;
use crate::core::workspace::Image;

/// What a round is for.
#[derive(Clone, Copy, Debug)]
pub enum Aim<'a> {
    /// Images.
    Build,
    /// What the hooks of what is named read: their system calls are written to a file.
    Trace(&'a Path),
    /// What is sent for the images of what is named, which are not built.
    Show(&'a Showing),
}

/// What is sent for images, noted while it is there.
#[derive(Debug, Default)]
pub struct Showing {
    /// Only for this image.
    pub image: Option<String>,
    /// Write the very stream to this file.
    pub tar: Option<PathBuf>,
    /// By name, what is sent.
    pub seen: RefCell<Vec<(String, Context)>>,
}

impl Showing {
    /// Notes what is sent for an image.
    pub fn add(&self, image: &Image, context: Context) -> Result<(), Problem> {
        if self.image.as_ref().is_some_and(|wanted| *wanted != image.name) {
            return Ok(());
        }
        if let Some(path) = &self.tar {
            let written =
                File::create(path).and_then(|file| archive::write(&context, BufWriter::new(file)));
            let failed =
                |error: io::Error| Problem::of_file(path.display().to_string(), error.to_string());
            written.map_err(failed)?;
        }
        self.seen.borrow_mut().push((image.name.clone(), context));
        Ok(())
    }
}
