//! What every component was built from last, and what it would be built from now, as digests.
//!
//! They say nothing of images: whether one is stale is decided in a round. Equal digests mean
//! that a round has nothing new to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use xtask_core::context::spec::ContextSpec;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::digest::Digest;
use xtask_core::digest::FieldHasher;
use xtask_core::plan::graph::Graph;
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Workspace;

use crate::commands::watch::reload::Loaded;
use crate::system::git;

/// Of components, by their place in the workspace; none for one that cannot be read.
pub(crate) type ComponentStates = BTreeMap<usize, Option<ComponentState>>;

/// What a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ComponentState {
    /// Of all that it is made from.
    digest: Digest,
    /// Whether what its hooks left is there as they left it.
    is_whole: bool,
}

/// So often in a row a component is built only because something happened in it, with the
/// contents that it had.
const MOST_DOUBTS: u32 = 2;

/// What components were, by name.
#[derive(Debug, Default)]
pub(crate) struct InputSnapshot {
    states: BTreeMap<String, KnownState>,
}

#[derive(Debug, Default)]
struct KnownState {
    /// None if that is not known. What hooks left is whole if it was after they ran.
    state: Option<ComponentState>,
    /// Whether it may have been made from something else for a moment.
    is_doubted: bool,
    doubts: u32,
}

impl InputSnapshot {
    /// Notes what these components are made from.
    pub(crate) fn set(
        &mut self,
        workspace: &Workspace,
        now: &ComponentStates,
        places: &BTreeSet<usize>,
    ) {
        for (place, state) in now.iter().filter(|(place, _)| places.contains(place)) {
            let known = self.known(workspace, *place);
            let digest = |state: Option<ComponentState>| state.map(|state| state.digest);
            known.doubts = if digest(known.state) == digest(*state) { known.doubts } else { 0 };
            (known.state, known.is_doubted) = (*state, false);
        }
    }

    /// Notes what these components are made from as a round begins or begins again: their
    /// hooks are yet to leave what they leave, and what is missing of it is no change.
    pub(crate) fn begin(
        &mut self,
        workspace: &Workspace,
        now: &ComponentStates,
        places: &BTreeSet<usize>,
    ) {
        let begun = |state: &Option<ComponentState>| {
            state.map(|it| ComponentState { is_whole: false, ..it })
        };
        let now = now.iter().map(|(place, state)| (*place, begun(state))).collect();
        self.set(workspace, &now, places);
    }

    /// The hooks of these components left all that they leave: what is missing of it from
    /// now on, somebody took away.
    pub(crate) fn hooks_completed(&mut self, workspace: &Workspace, places: &BTreeSet<usize>) {
        for place in places {
            if let Some(state) = &mut self.known(workspace, *place).state {
                state.is_whole = true;
            }
        }
    }

    /// These components may have been made from what was there for a moment only. That
    /// cannot go on for ever: what writes the same again and again is no editor.
    pub(crate) fn doubt(&mut self, workspace: &Workspace, places: &BTreeSet<usize>) {
        for place in places {
            let known = self.known(workspace, *place);
            if known.doubts < MOST_DOUBTS {
                (known.is_doubted, known.doubts) = (true, known.doubts + 1);
            }
        }
    }

    /// What these components were made from is not known.
    pub(crate) fn forget(&mut self, workspace: &Workspace, places: &BTreeSet<usize>) {
        for place in places {
            self.known(workspace, *place).state = None;
        }
    }

    fn known(&mut self, workspace: &Workspace, place: usize) -> &mut KnownState {
        self.states.entry(workspace.components[place].name.clone()).or_default()
    }

    /// The components that are to be looked at, whatever happened.
    pub(crate) fn doubtful(&self, workspace: &Workspace) -> BTreeSet<usize> {
        let doubted =
            self.states.iter().filter(|(_, known)| known.is_doubted || known.state.is_none());
        doubted.filter_map(|(name, _)| workspace.find(name)).collect()
    }

    /// The components that are not what they were.
    pub(crate) fn changed(&self, workspace: &Workspace, now: &ComponentStates) -> BTreeSet<usize> {
        let is_same = |place: &usize, state: &Option<ComponentState>| {
            let before = self.states.get(&workspace.components[*place].name);
            before.filter(|before| !before.is_doubted).is_some_and(|before| {
                before.state.zip(*state).is_some_and(|(before, now)| {
                    before.digest == now.digest && (now.is_whole || !before.is_whole)
                })
            })
        };
        now.iter()
            .filter(|(place, state)| !is_same(place, state))
            .map(|(place, _)| *place)
            .collect()
    }
}

/// What components are now, as long as no round is at work.
pub(crate) async fn states(
    loaded: &Arc<Loaded>,
    trees: &Arc<TreeCache>,
    places: BTreeSet<usize>,
) -> ComponentStates {
    let (loaded, trees) = (Arc::clone(loaded), Arc::clone(trees));
    let all = places.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let Loaded { workspace, graph, .. } = &*loaded;
        places
            .into_par_iter()
            .filter(|place| workspace.components[*place].builds())
            .map(|place| (place, state(workspace, graph, &trees, place).ok()))
            .collect()
    });
    reading.await.unwrap_or_else(|_| all.into_iter().map(|place| (place, None)).collect())
}

fn state(
    workspace: &Workspace,
    graph: &Graph,
    trees: &TreeCache,
    place: usize,
) -> Result<ComponentState, Problem> {
    let component = &workspace.components[place];
    let needed: Vec<String> = graph
        .dependencies(place)
        .into_iter()
        .map(|needed| workspace.components[needed].name.clone())
        .collect();
    let mut fields = FieldHasher::default();
    let mut is_whole = true;
    if component.has_hooks() {
        // What hooks left is made from the rest, unless somebody changes it.
        let folder = trees.component_files(&component.dir())?;
        is_whole = trees.outputs(&component.dir()).are_unchanged_in(&folder);
        fields.add(
            trees.hook_context_without_generated(&component.dir(), &needed)?.digest().as_bytes(),
        );
    }
    if let Some((file, inputs)) = &component.inputs {
        let paths = inputs.files(&workspace.root, file, &mut Vec::new());
        let paths = paths.map_err(|error| Problem::of_file(file, error.to_string()))?;
        fields.add(trees.inputs(&component.dir(), paths)?.digest().as_bytes());
        if inputs.head {
            let commit = git::head(&workspace.root);
            let commit = commit.map_err(|error| Problem::of_file(file, error.to_string()))?;
            fields.add(commit.unwrap_or_default().as_bytes());
        }
    }
    for image in component.images.iter().filter(|_| !component.has_hooks()) {
        let selection = ContextSpec::own(component, image).with_dependencies(needed.clone());
        fields.add(image.name.as_bytes());
        fields.add(image.dockerfile_digest.as_bytes());
        fields.add(trees.context_without_generated(&selection)?.digest().as_bytes());
    }
    Ok(ComponentState { digest: fields.finish(), is_whole })
}
