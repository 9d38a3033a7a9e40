//! Why a component was not built, for people who have to mend it.

use std::io;
use std::path::Path;

use xtask_core::dockerfile::excerpt;
use xtask_core::escape;
use xtask_core::problem::Problem;
use xtask_core::regular_file;
use xtask_core::workspace::components::{Component, Image};

use crate::engine::EngineError;
use crate::outcome::{ExcerptLine, Failure};
use crate::system::hooks::HookError;

/// Why a component was not built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A file of the component is wrong.
    #[error("{0}")]
    File(Problem),
    /// Files of a component or of what it needs cannot be read or copied.
    #[error("component '{}': {source}", escape::line(component))]
    Tree {
        /// The component.
        component: String,
        /// Which file, and why.
        source: io::Error,
    },
    /// A base image is nowhere to be had.
    #[error(
        "{}:{line}: base image '{reference}' is not in the engine and cannot be pulled: check its name, or make it first ({source})",
        escape::line(file)
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
    /// An image of the workspace that another one is made from was removed meanwhile.
    #[error("{file}:{line}: {reference} was removed from the engine during the build: build again")]
    BaseGone {
        /// The Dockerfile.
        file: String,
        /// The line that names the base.
        line: usize,
        /// The base.
        reference: String,
    },
    /// The names of its bases led elsewhere whenever it was built.
    #[error(
        "{dockerfile}: image '{image}' was made from other images than those of this workspace: \
         another checkout gives their names to its own. Build one after the other, or use an \
         engine for each"
    )]
    BasesMove {
        /// The Dockerfile.
        dockerfile: String,
        /// The image.
        image: String,
    },
    /// The engine did not make the image.
    #[error("{}: image '{image}' failed to build: {source}", escape::line(dockerfile))]
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
    pub(crate) fn describe(&self, root: &Path, component: &Component) -> Failure {
        let (file, line) = self.place(root);
        // Only a file that was read has lines: others may be endless.
        let excerpt = file.as_ref().zip(line).and_then(|(file, line)| {
            let text = regular_file::read_to_string(&root.join(file)).ok()?;
            let lines = excerpt::around(&text, line).into_iter().map(|(number, text)| {
                let text = text.to_owned();
                ExcerptLine { number, text, is_marked: number == line }
            });
            Some(lines.collect())
        });
        let message = match (self, line) {
            (Self::Image { dockerfile, image, source }, Some(line)) => {
                let dockerfile = escape::line(dockerfile);
                format!("{dockerfile}:{line}: image '{image}' failed to build: {source}")
            }
            // Only engines and registries say something in several lines.
            (Self::Image { .. } | Self::Base { .. }, _) => self.to_string(),
            _ => escape::line(&self.to_string()).into_owned(),
        };
        let component = component.name.clone();
        Failure { component, message, file, line, excerpt: excerpt.unwrap_or_default() }
    }

    /// The same, but that the user stopped the step where it was the engine that was waited
    /// for.
    pub(crate) fn or_cancelled(self) -> Self {
        match self {
            Self::Base { source: EngineError::Interrupted, .. }
            | Self::Image { source: EngineError::Interrupted, .. } => Self::Cancelled,
            error => error,
        }
    }

    /// Whether a file cannot be read, or is not what it was.
    pub(crate) fn is_of_files(&self) -> bool {
        let is_context =
            |error: &Self| matches!(error, Self::Image { source: EngineError::Context(_), .. });
        matches!(self, Self::File(_) | Self::Tree { .. }) || is_context(self)
    }

    /// The file that is to blame, and the line in it.
    fn place(&self, root: &Path) -> (Option<String>, Option<usize>) {
        match self {
            Self::Hook(error) => (Some(error.hook().to_owned()), None),
            Self::File(problem) => (problem.file.clone(), problem.line),
            Self::Base { file, line, .. } | Self::BaseGone { file, line, .. } => {
                (Some(file.clone()), Some(*line))
            }
            Self::BasesMove { dockerfile, .. } => (Some(dockerfile.clone()), None),
            Self::Image { dockerfile, source, .. } => {
                let contents =
                    regular_file::read_to_string(&root.join(dockerfile)).unwrap_or_default();
                let named = match source {
                    EngineError::Instruction { text, .. } => Some(text.as_str()),
                    _ => None,
                };
                let line = excerpt::find_failed(&contents, named, &source.to_string());
                (Some(dockerfile.clone()), line)
            }
            Self::Tree { .. } | Self::Cancelled | Self::Outdated => (None, None),
        }
    }
}

pub(crate) fn tree_error(component: &Component, source: io::Error) -> StepError {
    StepError::Tree { component: component.name.clone(), source }
}

pub(crate) fn image_error(image: &Image, source: EngineError) -> StepError {
    let (dockerfile, image) = (image.dockerfile.clone(), image.name.clone());
    StepError::Image { dockerfile, image, source }
}
