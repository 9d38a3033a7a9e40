//! Why a component was not built.

use std::io;
use std::path::Path;

use xtask_core::context::spec::ContextSpec;
use xtask_core::dockerfile::excerpt;
use xtask_core::escape;
use xtask_core::problem::{Problem, Problems};
use xtask_core::regular_file;
use xtask_core::workspace::components::{Component, Image};

use crate::engine::EngineError;
use crate::outcome::{ExcerptLine, Failure};
use crate::system::hooks::HookError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A file of the component is invalid or cannot be read.
    #[error("{0}")]
    File(Problem),
    /// What the component consists of is wrong.
    #[error("{0}")]
    Broken(#[from] Problems),
    /// Files of a component or its dependencies cannot be read or copied.
    #[error("component '{}': {source}", escape::line(component))]
    Tree {
        component: String,
        /// Names the file.
        source: io::Error,
    },
    #[error(
        "{}:{line}: base image '{reference}' is not in the engine and cannot be pulled: \
         check its name, or build it first ({source})",
        escape::line(file)
    )]
    Base {
        file: String,
        line: usize,
        reference: String,
        /// The error of the registry or the engine.
        source: EngineError,
    },
    /// A base image of the workspace was removed during the build, or lost its name in a store
    /// that keeps no image without one.
    #[error(
        "{file}:{line}: base image '{reference}' was removed from the engine during the build: \
         run the build again"
    )]
    BaseGone {
        file: String,
        line: usize,
        reference: String,
        /// The image that it is in this workspace.
        image: String,
    },
    /// In all attempts, the names of its bases were moved to other images during the build.
    #[error(
        "{dockerfile}: image '{image}' was built from images of another checkout that uses the \
         same names on this engine. Build one checkout at a time, or use a separate engine for \
         each"
    )]
    BasesMove { dockerfile: String, image: String },
    /// The engine says that it built an image that it does not have.
    #[error(
        "{dockerfile}: the engine reported image '{image}' as built, but has no image {}. \
         Something may remove images while they are built, such as 'docker image prune'",
        escape::line(id)
    )]
    NotThere { dockerfile: String, image: String, id: String },
    #[error("{}: image '{image}' failed to build: {source}", escape::line(dockerfile))]
    Image { dockerfile: String, image: String, source: EngineError },
    #[error("interrupted")]
    Cancelled,
    /// Its inputs changed during the build.
    #[error("inputs changed during the build")]
    Outdated,
}

impl StepError {
    /// The full error for the user, with an excerpt of the file that caused it.
    pub(crate) fn describe(&self, root: &Path, component: &Component) -> Failure {
        let Location { file, line, hint } = self.location(root, component);
        // The file may have been replaced by one that never ends, such as a named pipe.
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
                let hint = hint.map(|hint| format!("\n{hint}")).unwrap_or_default();
                format!("{dockerfile}:{line}: image '{image}' failed to build: {source}{hint}")
            }
            // These may have several lines.
            (Self::Image { .. } | Self::Base { .. } | Self::Broken(_), _) => self.to_string(),
            _ => escape::line(&self.to_string()).into_owned(),
        };
        let component = component.name.clone();
        Failure { component, message, file, line, excerpt: excerpt.unwrap_or_default() }
    }

    /// Turns an interrupted request to the engine into [`StepError::Cancelled`].
    pub(crate) fn or_cancelled(self) -> Self {
        match self {
            Self::Base { source: EngineError::Interrupted, .. }
            | Self::Image { source: EngineError::Interrupted, .. } => Self::Cancelled,
            error => error,
        }
    }

    /// Whether a file cannot be read, or changed while it was read.
    pub(crate) fn is_file_error(&self) -> bool {
        let is_context =
            |error: &Self| matches!(error, Self::Image { source: EngineError::Context(_), .. });
        matches!(self, Self::File(_) | Self::Tree { .. }) || is_context(self)
    }

    /// Where the cause of the error is.
    fn location(&self, root: &Path, component: &Component) -> Location {
        let of_file = |file: &str| Location { file: Some(file.to_owned()), ..Location::default() };
        let of_problem = |problem: &Problem| Location {
            file: problem.file.clone(),
            line: problem.line,
            hint: None,
        };
        match self {
            Self::Hook(error) => of_file(error.hook()),
            Self::File(problem) => of_problem(problem),
            Self::Broken(problems) => problems.iter().next().map(of_problem).unwrap_or_default(),
            Self::Base { file, line, .. } | Self::BaseGone { file, line, .. } => {
                Location { line: Some(*line), ..of_file(file) }
            }
            Self::BasesMove { dockerfile, .. } | Self::NotThere { dockerfile, .. } => {
                of_file(dockerfile)
            }
            Self::Image { dockerfile, image, source } => {
                let contents = regular_file::read(&root.join(dockerfile)).unwrap_or_default();
                let named = match source {
                    EngineError::Instruction { text, .. } => Some(text.as_str()),
                    _ => None,
                };
                let found = excerpt::locate(&contents, named, &source.to_string());
                let image = component.images.iter().find(|it| it.name == *image);
                let hint = found
                    .missing
                    .zip(image)
                    .and_then(|(path, image)| ContextSpec::own(image).explain_missing(root, &path));
                Location { line: found.line, hint, ..of_file(dockerfile) }
            }
            Self::Tree { .. } | Self::Cancelled | Self::Outdated => Location::default(),
        }
    }
}

/// Where the cause of an error is.
#[derive(Default)]
struct Location {
    file: Option<String>,
    line: Option<usize>,
    /// What may help.
    hint: Option<String>,
}

pub(crate) fn tree_error(component: &Component, source: io::Error) -> StepError {
    StepError::Tree { component: component.name.clone(), source }
}

pub(crate) fn image_error(image: &Image, source: EngineError) -> StepError {
    let (dockerfile, image) = (image.dockerfile.clone(), image.name.clone());
    StepError::Image { dockerfile, image, source }
}
