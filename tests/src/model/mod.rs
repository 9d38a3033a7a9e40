//! A random workspace and random edits of it, from a seed.
//!
//! The model knows every file that the user wrote and what every hook writes, so what
//! each image must contain follows from it alone ([`crate::reference`]), without a word
//! from the tool. It also knows what an edit can reach, so needless builds are noticed.
//! `tt-` stands for a prefix, as everywhere in the tests.

mod actions;
mod component;
mod edits;
mod kinds;
mod state;

pub use actions::Action;
pub use component::{Component, Hook, Writes};
pub use kinds::{Kind, kinds_of_environment};
pub use state::{Node, State};

pub use state::with_parents;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use fastrand::Rng;

/// A random workspace, and how it became what it is.
#[derive(Clone, Debug)]
pub struct Model {
    /// The workspace now.
    pub state: State,
    rng: Rng,
    kinds: BTreeSet<Kind>,
    /// Every earlier state, for edits that are undone.
    past: Vec<State>,
    /// What comes next, before anything random.
    planned: VecDeque<Planned>,
    /// The states that were committed, by number.
    commits: Vec<State>,
    /// How many components there ever were.
    count: usize,
    /// Whether all hooks declare what they read.
    is_declared: bool,
}

/// An edit that was made.
#[derive(Clone, Debug)]
pub struct Edit {
    /// For the story of a failure.
    pub text: String,
    /// What else is to be done, in this order.
    pub actions: Vec<Action>,
}

/// An edit that follows another one.
#[derive(Clone, Debug)]
enum Planned {
    /// What a component's `build/` says changes.
    Annotate(String),
    /// Everything is built.
    Build,
    /// All files are what they were.
    Restore(Box<State>),
}

impl Model {
    /// A few components that depend on each other, and edits of these kinds.
    pub fn new(seed: u64, kinds: BTreeSet<Kind>) -> Self {
        Self::with(seed, kinds, false)
    }

    /// The same with hooks that all declare what they read.
    pub fn declared(seed: u64, kinds: BTreeSet<Kind>) -> Self {
        Self::with(seed, kinds, true)
    }

    fn with(seed: u64, kinds: BTreeSet<Kind>, is_declared: bool) -> Self {
        let mut model = Self {
            state: State::default(),
            rng: Rng::with_seed(seed),
            kinds,
            past: Vec::new(),
            planned: VecDeque::new(),
            commits: Vec::new(),
            count: 0,
            is_declared,
        };
        model.furnish();
        for _ in 0..6 {
            model.add_component();
        }
        if model.state.head.is_some() {
            model.commits.push(model.state.clone());
        }
        model
    }

    /// Writes everything below `root`; `own` puts the prefix in.
    pub fn write(&self, root: &Path, own: impl Fn(&str) -> String) {
        self.state.bring(&State::default(), root, own);
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.rng.u8(0..count) == 0
    }

    fn text(&mut self) -> String {
        format!("text {}\n", self.rng.u32(1000..10000))
    }

    fn some_component(&mut self) -> String {
        let names: Vec<&String> = self.state.components.keys().collect();
        (*self.rng.choice(&names).expect("there is always one")).clone()
    }
}
