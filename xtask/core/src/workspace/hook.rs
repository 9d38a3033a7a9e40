//! What runs before or after the images of a component are built.

use std::fmt;
use std::path::Path;

use crate::digest::Digest;
use crate::problem::Problem;
use crate::regular_file;

/// A hook. Its working directory is the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A script, by its path from the root.
    Script(String),
    /// A program with its arguments.
    Command(Vec<String>),
}

impl Hook {
    /// The path of the script, if it is one.
    pub fn script(&self) -> Option<&str> {
        match self {
            Self::Script(path) => Some(path),
            Self::Command(_) => None,
        }
    }

    /// Whether it is a script in a folder.
    pub fn is_in(&self, folder: &str) -> bool {
        self.script().is_some_and(|path| Path::new(path).starts_with(folder))
    }

    /// The digest of the script, or of the command.
    ///
    /// # Errors
    /// The script cannot be read.
    pub fn digest(&self, root: &Path) -> Result<Digest, Problem> {
        let bytes = match self {
            Self::Script(script) => {
                let path = root.join(script);
                regular_file::read(&path).map_err(|error| {
                    Problem::of_file(script, regular_file::explain(&path, &error))
                })?
            }
            Self::Command(words) => words.join("\0").into_bytes(),
        };
        Ok(blake3::hash(&bytes))
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(path) => f.write_str(path),
            Self::Command(words) => f.write_str(&words.join(" ")),
        }
    }
}
