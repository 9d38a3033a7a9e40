//! What is wrong with a workspace or a request, and where.
//!
//! A workspace is judged as a whole: every check adds to one list, and the list
//! is shown at once, because fixing problems one run at a time is what people
//! curse. A problem names the file (and line) that is to blame, says what is
//! wrong, and what to do.

use std::fmt;

use serde::Serialize;

use crate::escape;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file to blame, relative to the workspace root where it lies in it.
    pub file: Option<String>,
    /// The line in that file, from 1.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem that no file is to blame for.
    pub fn of_request(message: impl Into<String>) -> Self {
        Self { file: None, line: None, message: message.into() }
    }

    /// A problem with a whole file.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: Some(file.into()), line: None, message: message.into() }
    }

    /// A problem with one line of a file.
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

/// Everything that is wrong, never empty: a request that cannot be carried out.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Err` with all the problems, sorted by place, if there are any.
    pub fn check(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        problems.dedup();
        Err(Self(problems))
    }

    /// The problems, sorted by place.
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

/// ` (did you mean 'x'?)` if one of `known` is near enough to `name` to be what
/// was meant, else nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|candidate| {
            let distance =
                strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase());
            (distance, candidate)
        })
        .min()
        .filter(|(distance, candidate)| *distance <= name.len().max(candidate.len()).div_ceil(3))
        .map(|(_, candidate)| format!(" (did you mean '{}'?)", escape::line(candidate)))
        .unwrap_or_default()
}
