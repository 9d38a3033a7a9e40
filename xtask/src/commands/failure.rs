//! Why a component was not built, for people who have to mend it.

use std::fs;
use std::io;
use std::path::Path;

use crate::core::excerpt;
use crate::core::problem::Problem;
use crate::core::workspace::Component;
use crate::effects::engine::EngineError;
use crate::effects::hooks::HookError;
use crate::event::{ExcerptLine, Failure};

/// Why a component was not built.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A file of the component is wrong.
    #[error("{0}")]
    File(Problem),
    /// Files of a component or of what it needs cannot be read or copied.
    #[error("component '{component}': {source}")]
    Tree {
        /// The component.
        component: String,
        /// Which file, and why.
        source: io::Error,
    },
    /// A base image is nowhere to be had.
    #[error(
        "{file}:{line}: base image '{reference}' is not in the engine and cannot be pulled: check its name, or make it first ({source})"
    )]
    Base {
        /// The Dockerfile.
        file: String,
        /// The line that names the base.
        line: usize,
        /// The base.
        reference: String,
        /// What the registry or the engine said.
        source: EngineError,
    },
    /// The engine did not make the image.
    #[error("{dockerfile}: image '{image}' failed to build: {source}")]
    Image {
        /// The Dockerfile.
        dockerfile: String,
        /// The image.
        image: String,
        /// What the engine said.
        source: EngineError,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Cancelled,
    /// What it is made from changed meanwhile.
    #[error("changed while it was built")]
    Outdated,
}

impl StepError {
    /// All that there is to say about it; the Dockerfile's line is looked up.
    pub(super) fn describe(&self, root: &Path, component: &Component) -> Failure {
        let (file, line) = self.place(root);
        let text = file.as_ref().and_then(|file| fs::read_to_string(root.join(file)).ok());
        let excerpt = line.zip(text).map(|(line, text)| {
            let lines = excerpt::around(&text, line).into_iter();
            lines
                .map(|(number, text)| ExcerptLine {
                    number,
                    text: text.to_owned(),
                    is_marked: number == line,
                })
                .collect()
        });
        let message = match (self, line) {
            (Self::Image { dockerfile, image, source }, Some(line)) => {
                format!("{dockerfile}:{line}: image '{image}' failed to build: {source}")
            }
            _ => self.to_string(),
        };
        let component = component.name.clone();
        Failure { component, message, file, line, excerpt: excerpt.unwrap_or_default() }
    }

    /// The same, but that the user stopped the step where it was the engine that was waited
    /// for.
    pub(super) fn or_cancelled(self) -> Self {
        match self {
            Self::Base { source: EngineError::Interrupted, .. }
            | Self::Image { source: EngineError::Interrupted, .. } => Self::Cancelled,
            error => error,
        }
    }

    /// Whether a file cannot be read, or is not what it was.
    pub(super) fn is_of_files(&self) -> bool {
        let is_context =
            |error: &Self| matches!(error, Self::Image { source: EngineError::Context(_), .. });
        matches!(self, Self::File(_) | Self::Tree { .. }) || is_context(self)
    }

    /// The file that is to blame, and the line in it.
    fn place(&self, root: &Path) -> (Option<String>, Option<usize>) {
        match self {
            Self::Hook(error) => (Some(error.hook().to_owned()), None),
            Self::File(problem) => (problem.file.clone(), problem.line),
            Self::Base { file, line, .. } => (Some(file.clone()), Some(*line)),
            Self::Image { dockerfile, source: EngineError::Instruction { text, .. }, .. } => {
                let contents = fs::read_to_string(root.join(dockerfile)).unwrap_or_default();
                (Some(dockerfile.clone()), excerpt::find(&contents, text))
            }
            Self::Image { dockerfile, source, .. } => {
                let contents = fs::read_to_string(root.join(dockerfile)).unwrap_or_default();
                (Some(dockerfile.clone()), excerpt::find_quoted(&contents, &source.to_string()))
            }
            Self::Tree { .. } | Self::Cancelled | Self::Outdated => (None, None),
        }
    }
}

pub(super) fn tree_error(component: &Component, source: io::Error) -> StepError {
    StepError::Tree { component: component.name.clone(), source }
}
