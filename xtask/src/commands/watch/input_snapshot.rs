//! Digests of the inputs from which each component was last built, and of its current inputs.
//!
//! Whether an image is stale is decided in a round. If the digests are equal, no round is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use xtask_core::context::spec::{ContextSpec, DependencyFolder};
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::digest::Digest;
use xtask_core::digest::FieldHasher;
use xtask_core::ids::ComponentId;
use xtask_core::plan::graph::Graph;
use xtask_core::problem::Problem;
use xtask_core::staleness::fingerprint;
use xtask_core::workspace::components::{Image, Workspace};

use crate::commands::watch::reload::Loaded;
use crate::system::git;

/// The current states; `None` if a component cannot be read.
pub(crate) type ComponentStates = BTreeMap<ComponentId, Option<ComponentState>>;

/// The state of a component's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ComponentState {
    /// The digest of all inputs.
    digest: Digest,
    /// Whether the outputs of its hooks exist and are unchanged.
    has_outputs: bool,
}

/// How often in a row a component with unchanged inputs is rebuilt because it is uncertain.
const MAX_UNCERTAIN_REBUILDS: u32 = 2;

/// The states from which components were last built, by name.
#[derive(Debug, Default)]
pub(crate) struct InputSnapshot {
    states: BTreeMap<String, BuiltState>,
}

#[derive(Debug, Default)]
struct BuiltState {
    /// `None` if it is unknown. `has_outputs` is set once the hooks completed.
    state: Option<ComponentState>,
    /// Whether the component may have been built from inputs that existed only briefly.
    is_uncertain: bool,
    uncertain_rebuilds: u32,
}

impl InputSnapshot {
    /// Records the states from which these components are built.
    pub(crate) fn set(
        &mut self,
        workspace: &Workspace,
        now: &ComponentStates,
        components: &BTreeSet<ComponentId>,
    ) {
        for (component, state) in now.iter().filter(|(id, _)| components.contains(id)) {
            let built = self.built(workspace, *component);
            let digest = |state: Option<ComponentState>| state.map(|state| state.digest);
            if digest(built.state) != digest(*state) {
                built.uncertain_rebuilds = 0;
            }
            (built.state, built.is_uncertain) = (*state, false);
        }
    }

    /// Records the states of these components when their steps start or restart. Until their
    /// hooks complete, missing outputs are not a change.
    pub(crate) fn set_before_hooks(
        &mut self,
        workspace: &Workspace,
        now: &ComponentStates,
        components: &BTreeSet<ComponentId>,
    ) {
        let without_outputs = |state: &Option<ComponentState>| {
            state.map(|state| ComponentState { has_outputs: false, ..state })
        };
        let now = now.iter().map(|(id, state)| (*id, without_outputs(state))).collect();
        self.set(workspace, &now, components);
    }

    /// Records that the hooks of these components completed. From now on, missing outputs are a
    /// change.
    pub(crate) fn hooks_completed(
        &mut self,
        workspace: &Workspace,
        components: &BTreeSet<ComponentId>,
    ) {
        for component in components {
            if let Some(state) = &mut self.built(workspace, *component).state {
                state.has_outputs = true;
            }
        }
    }

    /// Marks components that may have been built from inputs that existed only briefly. The
    /// number of rebuilds is limited, in case a program repeatedly writes the same contents.
    pub(crate) fn mark_uncertain(
        &mut self,
        workspace: &Workspace,
        components: &BTreeSet<ComponentId>,
    ) {
        for component in components {
            let built = self.built(workspace, *component);
            if !built.is_uncertain && built.uncertain_rebuilds < MAX_UNCERTAIN_REBUILDS {
                built.is_uncertain = true;
                built.uncertain_rebuilds += 1;
            }
        }
    }

    /// Forgets the inputs from which these components were built.
    pub(crate) fn forget(&mut self, workspace: &Workspace, components: &BTreeSet<ComponentId>) {
        for component in components {
            self.built(workspace, *component).state = None;
        }
    }

    fn built(&mut self, workspace: &Workspace, component: ComponentId) -> &mut BuiltState {
        self.states.entry(workspace.components[component].name.clone()).or_default()
    }

    /// The components that may have been built from inputs that existed only briefly.
    pub(crate) fn uncertain(&self, workspace: &Workspace) -> BTreeSet<ComponentId> {
        self.with(workspace, |built| built.is_uncertain)
    }

    /// The components of which it is not known from what they were built.
    pub(crate) fn unknown(&self, workspace: &Workspace) -> BTreeSet<ComponentId> {
        self.with(workspace, |built| built.state.is_none())
    }

    fn with(
        &self,
        workspace: &Workspace,
        wanted: impl Fn(&BuiltState) -> bool,
    ) -> BTreeSet<ComponentId> {
        let wanted = self.states.iter().filter(|(_, built)| wanted(built));
        wanted.filter_map(|(name, _)| workspace.find(name)).collect()
    }

    /// The components whose current state differs from the one that they were built from.
    pub(crate) fn changed(
        &self,
        workspace: &Workspace,
        now: &ComponentStates,
    ) -> BTreeSet<ComponentId> {
        let is_same = |component: &ComponentId, state: &Option<ComponentState>| {
            let built = self.states.get(&workspace.components[*component].name);
            built.filter(|built| !built.is_uncertain).is_some_and(|built| {
                built.state.zip(*state).is_some_and(|(before, now)| {
                    before.digest == now.digest && (now.has_outputs || !before.has_outputs)
                })
            })
        };
        now.iter()
            .filter(|(component, state)| !is_same(component, state))
            .map(|(component, _)| *component)
            .collect()
    }
}

/// The current states of components.
pub(crate) async fn states(
    loaded: &Arc<Loaded>,
    trees: &Arc<TreeCache>,
    components: BTreeSet<ComponentId>,
) -> ComponentStates {
    let (loaded, trees) = (Arc::clone(loaded), Arc::clone(trees));
    let all = components.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let Loaded { workspace, graph, .. } = &*loaded;
        components
            .into_par_iter()
            .filter(|component| workspace.components[*component].builds())
            .map(|component| (component, state(workspace, graph, &trees, component).ok()))
            .collect()
    });
    reading.await.unwrap_or_else(|_| all.into_iter().map(|component| (component, None)).collect())
}

fn state(
    workspace: &Workspace,
    graph: &Graph,
    trees: &TreeCache,
    id: ComponentId,
) -> Result<ComponentState, Problem> {
    let component = &workspace.components[id];
    let received = graph.received(workspace, id);
    let dependencies: Vec<DependencyFolder> =
        received.into_iter().map(|it| DependencyFolder::of(&workspace.components[it])).collect();
    let mut fields = FieldHasher::default();
    for problem in &component.problems {
        fields.add(problem.to_string().as_bytes());
    }
    let mut has_outputs = true;
    if component.has_hooks() {
        // Outputs are computed from the other inputs, so only changes to them count.
        let folder = trees.component_files(&component.dir)?;
        has_outputs = trees.outputs(&component.dir).are_unchanged_in(&folder);
        fields.add(
            trees
                .hook_context_without_generated(&component.dir, &dependencies)?
                .digest()
                .as_bytes(),
        );
    }
    for hook in component.hooks() {
        fields.add(hook.to_string().as_bytes());
    }
    for hook in component.hooks_elsewhere(&workspace.root) {
        fields.add(hook.digest(&workspace.root)?.as_bytes());
    }
    if let Some((file, inputs)) = &component.inputs {
        let paths = inputs.files(&workspace.root, file, &mut Vec::new());
        let paths = paths.map_err(|error| Problem::of_file(file, error.to_string()))?;
        fields.add(trees.inputs(&component.dir, paths)?.digest().as_bytes());
        if inputs.head {
            let commit = git::head(&workspace.root);
            let commit = commit.map_err(|error| Problem::of_file(file, error.to_string()))?;
            fields.add(commit.unwrap_or_default().as_bytes());
        }
    }
    for image in &component.images {
        add_settings(&mut fields, image);
    }
    for image in component.images.iter().filter(|_| !component.has_hooks()) {
        let spec = ContextSpec::own(image).with_dependencies(dependencies.clone());
        fields.add(image.dockerfile_digest.as_bytes());
        fields.add(trees.context_without_generated(&spec)?.digest().as_bytes());
    }
    Ok(ComponentState { digest: fields.finish(), has_outputs })
}

/// Adds an image's name, what `xtask.toml` says about it, and which images it uses.
fn add_settings(fields: &mut FieldHasher, image: &Image) {
    fields.add(image.name.as_bytes());
    let args = image.build_args.iter().filter(|(name, _)| image.reads_arg(name));
    let args = args.map(|(name, value)| (format!("args.{name}"), value.clone()));
    for (key, value) in args.chain(fingerprint::settings(image)) {
        fields.add(key.as_bytes());
        fields.add(value.as_bytes());
    }
    for used in &image.uses {
        fields.add(used.reference.as_bytes());
        fields.add(used.local.as_deref().unwrap_or_default().as_bytes());
    }
}
