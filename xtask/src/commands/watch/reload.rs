//! The workspace that is watched, read again whenever its structure may have changed.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use xtask_core::context::spec::ContextSpec;
use xtask_core::ids::ComponentId;
use xtask_core::plan::graph::{Direction, Graph};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::Workspace;

use crate::build::base_images::{self, ExternalBases};
use crate::build::prepare::read_workspace;
use crate::command_error::CommandError;
use crate::commands::watch::changes::Changes;
use crate::commands::watch::setup::Setup;
use crate::engine::Engine;
use crate::event::{Event, PlannedComponent};
use crate::program;
use crate::system::hook_outputs;
use crate::system::watcher::filter::WatchFilter;

/// A workspace that could be read.
pub(crate) struct Loaded {
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) graph: Graph,
    /// The components that are watched: those that were named, with what they need, or all.
    pub(crate) watched: BTreeSet<ComponentId>,
}

/// Why there is nothing to watch.
pub(crate) enum LoadError {
    /// The workspace cannot be read.
    Workspace(Problems),
    /// It has no component of a name that was given.
    Names(Problems),
}

impl From<Problems> for LoadError {
    fn from(problems: Problems) -> Self {
        Self::Workspace(problems)
    }
}

impl From<LoadError> for CommandError {
    fn from((LoadError::Workspace(problems) | LoadError::Names(problems)): LoadError) -> Self {
        problems.into()
    }
}

impl Loaded {
    fn new(workspace: Workspace, graph: Graph, names: &[String]) -> Result<Self, LoadError> {
        let named = workspace.find_all(names).map_err(LoadError::Names)?;
        let default = workspace.default_selection().map_err(LoadError::Workspace)?;
        let watched = match default.filter(|_| named.is_empty()) {
            Some(default) => graph.closure(&default.components),
            None if named.is_empty() => workspace.components.ids().collect(),
            None => graph.closure(&named),
        };
        Problems::check(graph.cycles(&watched))?;
        Ok(Self { workspace: Arc::new(workspace), graph, watched })
    }

    pub(crate) fn name(&self, component: ComponentId) -> String {
        self.workspace.components[component].name.clone()
    }

    /// The watched components that are or depend on some.
    pub(crate) fn watched_dependents(
        &self,
        components: &BTreeSet<ComponentId>,
    ) -> BTreeSet<ComponentId> {
        self.graph.dependents(components).intersection(&self.watched).copied().collect()
    }

    /// The event that says what is watched, in build order.
    fn event(&self) -> Event {
        let order = self.graph.order().iter().filter(|id| self.watched.contains(id));
        let planned = |id: &ComponentId| PlannedComponent {
            component: self.name(*id),
            dependencies: self
                .graph
                .dependencies(*id)
                .into_iter()
                .map(|it| self.name(it))
                .collect(),
            estimate: None,
        };
        Event::WorkspaceLoaded { components: order.map(planned).collect() }
    }

    /// The watched components with hooks that may read files that are not watched.
    fn undeclared(&self) -> impl Iterator<Item = &str> {
        let watched = self.watched.iter().map(|id| &self.workspace.components[*id]);
        let undeclared = watched.filter(|it| it.has_hooks() && it.inputs.is_none());
        undeclared.map(|component| component.name.as_str())
    }
}

/// Reads the workspace, and keeps watching what it consists of.
pub(crate) struct Loader<'a, E> {
    pub(crate) setup: &'a Setup<'a, E>,
    /// The components whose hooks were warned of.
    pub(crate) warned: HashSet<String>,
}

impl<E: Engine> Loader<'_, E> {
    /// Reads the workspace.
    pub(crate) async fn load(&mut self, changes: &mut Changes) -> Result<Arc<Loaded>, LoadError> {
        let loaded = self.read(changes).await;
        if let Ok(loaded) = &loaded {
            self.setup.ctx.events.send(loaded.event());
            self.warn_of_undeclared(loaded);
            self.inspect_bases(&loaded.workspace).await;
        }
        changes.watch_new_folders();
        loaded.map(Arc::new)
    }

    async fn read(&self, changes: &mut Changes) -> Result<Loaded, LoadError> {
        let (root, events) = (self.setup.ctx.root.clone(), self.setup.ctx.events.clone());
        let (options, registry) =
            (self.setup.options.reading.clone(), self.setup.registry.cloned());
        let reading = tokio::task::spawn_blocking(move || {
            read_workspace(&root, &options, registry.as_ref(), &events)
        });
        let failed =
            |error: tokio::task::JoinError| Problems::from(Problem::of_request(error.to_string()));
        let (mut workspace, graph) = reading.await.map_err(failed)??;
        self.setup.trees.set_components(&workspace);
        hook_outputs::load(&workspace, &self.setup.trees);
        changes.watch(WatchFilter::new(&workspace, &graph, &self.setup.trees));
        self.watch_links(changes, &mut workspace, &graph);
        Loaded::new(workspace, graph, &self.setup.options.components)
    }

    /// Watches what links lead to that leave a component which others depend on, and those that are
    /// inputs of hooks. Where the first lead is known once the component is walked, after it is
    /// watched; what is there is read again once it is watched, too.
    fn watch_links(&self, changes: &mut Changes, workspace: &mut Workspace, graph: &Graph) {
        let trees = &self.setup.trees;
        let components = workspace.components.ids().zip(&mut workspace.components);
        let has_dependents = |id| !graph.neighbors(id, Direction::Dependents).is_empty();
        let needed = components.filter(|(id, it)| has_dependents(*id) || it.inputs.is_some());
        let needed: Vec<_> = needed.collect();
        let root = &workspace.root;
        tokio::task::block_in_place(|| {
            needed.into_par_iter().for_each(|(id, component)| {
                if has_dependents(id) {
                    component.link_targets = trees.link_targets(&component.dir);
                }
                let inputs = component.inputs.iter();
                component.link_targets.extend(inputs.flat_map(|(_, it)| it.link_targets(root)));
            });
        });
        let components = workspace.components.iter();
        let linked: Vec<_> = components.filter(|it| !it.link_targets.is_empty()).collect();
        if !linked.is_empty() {
            changes.watch(WatchFilter::new(workspace, graph, trees));
            for component in linked {
                trees.invalidate_path(Path::new(&component.dir));
            }
        }
    }

    /// Warns of hooks that may read files that are not watched, once for each component.
    fn warn_of_undeclared(&mut self, loaded: &Loaded) {
        let new = loaded.undeclared().filter(|name| self.warned.insert((*name).to_owned()));
        let names: Vec<&str> = new.collect();
        if let Some(first) = names.first() {
            let message = format!(
                "what the hooks of {} read outside their components is not watched, as no \
                 build/inputs declares it: '{} inputs {first}' prints what it would hold",
                names.join(", "),
                program::name()
            );
            self.setup.ctx.events.send(Event::Warning(Problem::of_request(message)));
        }
    }

    /// Finds out which external bases make a build read more than its Dockerfile says, as far
    /// as the engine has them; a round finds out the rest.
    async fn inspect_bases(&self, workspace: &Workspace) {
        let mut found = ExternalBases::new();
        for (_, image) in workspace.images() {
            let bases = base_images::to_inspect(image);
            for used in &bases {
                if !found.contains_key(&used.reference) {
                    let base = self.setup.engine.image(&used.reference).await.unwrap_or_default();
                    found.insert(used.reference.clone(), base);
                }
            }
            let spec = ContextSpec::own(image);
            self.setup.trees.set_reads_all(&spec, base_images::read_all(image, &bases, &found));
        }
    }
}
