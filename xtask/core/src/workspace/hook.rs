//! What runs before or after the images of a component are built.

use std::fmt;

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
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(path) => f.write_str(path),
            Self::Command(words) => f.write_str(&words.join(" ")),
        }
    }
}
