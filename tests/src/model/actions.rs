//! What is done to the engine, or to what the tool keeps between builds.

use std::collections::BTreeSet;

/// One of these things.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An image loses its name.
    Untag(String),
    /// An image's name is given to another one.
    Retag {
        /// The component whose image gets a second name.
        from: String,
        /// The component whose image loses its name.
        to: String,
    },
    /// An image is made from a component's image.
    Derive {
        /// The component.
        from: String,
        /// The name that it gets, which may be the component's own.
        name: String,
    },
    /// A container of a component's image is committed.
    Commit {
        /// The component.
        from: String,
        /// The name that it gets, which may be the component's own.
        name: String,
    },
    /// When the dependent is built next, its base's name is given to a foreign image just
    /// before, as another checkout on the same engine does.
    Take {
        /// The component whose name is taken.
        base: String,
        /// The component that is made from it.
        dependent: String,
        /// Whether the foreign image is made from the base's own.
        is_derived: bool,
    },
    /// The external base is another one.
    MoveOutside,
    /// `target/` is removed.
    Lose,
    /// `target/` is copied.
    Keep,
    /// `target/` is that copy again.
    RollBack,
    /// A build is killed in the middle.
    Kill,
    /// Everything is built.
    Build,
    /// All files of the user's are committed, as this number.
    GitCommit(usize),
    /// The commit of this number is checked out.
    GitCheckout(usize),
}

impl Action {
    /// The components whose images are not what they were after it.
    pub fn touched(&self) -> BTreeSet<String> {
        match self {
            Self::Untag(name) | Self::Retag { to: name, .. } => [name.clone()].into(),
            Self::Derive { from, name } | Self::Commit { from, name } => {
                let is_own = *name == format!("tt-{from}");
                is_own.then(|| from.clone()).into_iter().collect()
            }
            Self::Take { base, dependent, .. } => [base.clone(), dependent.clone()].into(),
            _ => BTreeSet::new(),
        }
    }

    /// The component whose image it takes.
    pub fn image(&self) -> Option<&str> {
        match self {
            Self::Untag(name)
            | Self::Retag { from: name, .. }
            | Self::Derive { from: name, .. }
            | Self::Commit { from: name, .. }
            | Self::Take { base: name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether something is built meanwhile.
    pub fn builds(&self) -> bool {
        matches!(self, Self::Build | Self::Kill)
    }
}
