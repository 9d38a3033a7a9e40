//! Where a value comes from, for problems with it and for those who ask.

use std::fmt;

use crate::paths::CONFIG_FILE;
use crate::problem::Problem;

/// Where something stands in the file, starting at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It is what holds if nothing is said.
    Default,
    /// The option of this name.
    Option(&'static str),
    /// The environment variable of this name.
    Environment(&'static str),
    /// A place in `xtask.toml`.
    File(Position),
}

impl Origin {
    /// A problem with the value.
    pub(crate) fn problem(self, message: impl fmt::Display) -> Problem {
        match self {
            Self::File(Position { line, column }) => {
                Problem::of_line(CONFIG_FILE, line, format!("column {column}: {message}"))
            }
            Self::Option(name) | Self::Environment(name) => {
                Problem::of_request(format!("{name}: {message}"))
            }
            Self::Default => Problem::of_request(message.to_string()),
        }
    }

    /// The line in `xtask.toml`, if it comes from there.
    pub fn line(self) -> Option<usize> {
        match self {
            Self::File(at) => Some(at.line),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::Option(name) | Self::Environment(name) => f.write_str(name),
            Self::File(at) => write!(f, "{CONFIG_FILE}:{}", at.line),
        }
    }
}
