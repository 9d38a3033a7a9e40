//! How components are marked in every format.

use xtask_core::plan::graph::EdgeKind;

use crate::commands::graph::{Mark, Node};
use crate::outcome::{ImageState, PlannedStep};

/// The state of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staleness {
    UpToDate,
    Restored,
    Stale,
    Undecided,
}

impl Staleness {
    pub(crate) const ALL: [Self; 4] =
        [Self::UpToDate, Self::Restored, Self::Stale, Self::Undecided];

    pub(crate) fn of(node: &Node) -> Option<Self> {
        node.expected.as_ref().map(Self::of_step)
    }

    pub(crate) fn of_step(step: &PlannedStep) -> Self {
        let expectations = || step.images.iter().map(|image| &image.state);
        if expectations().any(|it| matches!(it, ImageState::Stale { .. })) {
            return Self::Stale;
        }
        if step.hooks.is_some()
            || expectations().any(|it| matches!(it, ImageState::Undecided { .. }))
        {
            return Self::Undecided;
        }
        let is_restored = expectations().any(|it| *it == ImageState::Restored);
        if is_restored { Self::Restored } else { Self::UpToDate }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "up_to_date",
            Self::Restored => "restored",
            Self::Stale => "stale",
            Self::Undecided => "undecided",
        }
    }

    /// As legends say it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::UpToDate => "up to date",
            Self::Restored => "will be retagged",
            Self::Stale => "stale",
            Self::Undecided => "decided during the build",
        }
    }

    /// The fill color.
    pub(crate) fn fill(self) -> &'static str {
        match self {
            Self::UpToDate => "#d7f0dc",
            Self::Restored => "#d7e8f0",
            Self::Stale => "#ffd9c2",
            Self::Undecided => "#fff3c2",
        }
    }
}

pub(crate) fn mark_name(mark: Mark) -> &'static str {
    match mark {
        Mark::Changed => "changed",
        Mark::Reached => "affected",
    }
}

/// The names of a component's images, except one with the component's own name.
pub(crate) fn other_images(node: &Node) -> impl Iterator<Item = &str> {
    let names = node.images().iter().map(|image| image.name.as_str());
    names.filter(|name| *name != node.name)
}

/// The duration of a component's last build.
pub(crate) fn duration(node: &Node) -> Option<String> {
    node.duration.map(|duration| format!("{:.1}s", duration.as_secs_f64()))
}

/// Whether a link copies files from an image; `COPY --from` and mounts are drawn alike.
pub(crate) fn is_copied(kind: EdgeKind) -> bool {
    use xtask_core::dockerfile::parser::Via;
    matches!(kind, EdgeKind::Image(Via::CopyFrom | Via::MountFrom))
}
