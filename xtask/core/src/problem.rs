//! Problems in a workspace or in the command line.
//!
//! Every check adds to one list, which is reported as a whole, so that users need not fix
//! one problem per run. A problem names the file and the line, says what is wrong and how
//! to fix it.

use std::fmt;

use serde::Serialize;

use crate::escape;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file at fault, relative to the workspace root if it is below it.
    pub file: Option<String>,
    /// The line in that file, starting at 1.
    pub line: Option<usize>,
    /// What is wrong and how to fix it.
    pub message: String,
}

impl Problem {
    /// A problem that concerns no file, such as a wrong command line option.
    pub fn of_request(message: impl Into<String>) -> Self {
        Self { file: None, line: None, message: message.into() }
    }

    /// A problem that concerns a whole file.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: Some(file.into()), line: None, message: message.into() }
    }

    /// A problem that concerns one line of a file.
    pub fn of_line(file: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { file: Some(file.into()), line: Some(line), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", escape::line(file))?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&escape::lines(&self.message))
    }
}

/// One or more problems, which make a command fail.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Returns `Err` with all problems, sorted by file and line, if there are any.
    pub fn check(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        problems.dedup();
        Err(Self(problems))
    }

    /// The problems, sorted by file and line.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Returns ` (did you mean 'x'?)` if one of `known` is similar to `name`, and an empty
/// string otherwise.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|candidate| {
            let distance =
                strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase());
            (distance, candidate)
        })
        .min()
        .filter(|(distance, candidate)| {
            let longest = name.chars().count().max(candidate.chars().count());
            *distance <= longest.div_ceil(3) && *distance < longest
        })
        .map(|(_, candidate)| hint(candidate))
        .unwrap_or_default()
}

/// Asks whether another name was meant.
pub(crate) fn hint(name: &str) -> String {
    format!(" (did you mean '{}'?)", escape::line(name))
}
