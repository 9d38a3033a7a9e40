//! The workspace as the loop knows it, read again when it may be another.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use xtask_core::context::spec::ContextSpec;
use xtask_core::dockerfile::parser::ImageUse;
use xtask_core::plan::graph::{Direction, Graph};
use xtask_core::workspace::components::Workspace;
use xtask_core::workspace::registry_config::RegistryConfig;

use super::Watch;
use crate::build::base_images::{self, ExternalBases};
use crate::build::prepare::read_workspace;
use crate::commands::watch::input_snapshot::states;
use crate::engine::Engine;
use crate::event::{Event, PlannedComponent};
use crate::system::hook_outputs;
use crate::system::watcher::filter::WatchFilter;

impl<E: Engine> Watch<'_, E> {
    /// Reads the workspace again; what is wrong with it is said.
    pub(crate) async fn read(&mut self) {
        let root = self.ctx.root.clone();
        let (events, registry) = (self.ctx.events.clone(), self.registry.clone());
        let options = self.options.build.reading.clone();
        let reading = tokio::task::spawn_blocking(move || {
            read_workspace(&root, &options, registry.as_ref(), &events)
        });
        self.reading = match reading.await {
            Ok(Ok((mut workspace, graph))) => {
                hook_outputs::load(&workspace, &self.trees);
                self.scope = WatchFilter::new(&workspace, &graph, &self.trees);
                self.cover_links(&mut workspace, &graph);
                self.tell_workspace(&workspace, &graph);
                Some(Arc::new((Arc::new(workspace), graph)))
            }
            Ok(Err(problems)) => {
                self.say(&problems.into());
                None
            }
            Err(_) => None,
        };
        if let Some(reading) = &self.reading
            && let Err(problems) = reading.0.find_all(&self.options.build.components)
        {
            self.say(&problems.into());
            self.reading = None;
        }
        self.warn_of_undeclared();
        self.ask_of_bases().await;
        self.cover();
    }

    fn cover(&mut self) {
        let scope = &self.scope;
        for folder in scope.folders() {
            let start = folder.ancestors().find(|folder| self.ctx.root.join(folder).is_dir());
            self.watcher.cover(start.unwrap_or(folder), scope);
        }
        if scope.has_head() {
            self.watcher.cover_one(Path::new(".git"));
            self.watcher.cover_one(Path::new(".git/logs"));
        }
    }

    /// Watches what links lead to that leave a component which others need. Where that is,
    /// is known once the component is walked, which it is once it is watched; and what is
    /// there is looked at again once it is watched, too.
    fn cover_links(&mut self, workspace: &mut Workspace, graph: &Graph) {
        self.cover();
        let trees = &self.trees;
        let components = workspace.components.par_iter_mut().enumerate();
        let needed =
            components.filter(|(place, _)| !graph.next(*place, Direction::Dependents).is_empty());
        tokio::task::block_in_place(|| {
            needed.for_each(|(_, component)| component.targets = trees.targets(&component.dir()));
        });
        let mut linked = workspace.components.iter().filter(|it| !it.targets.is_empty()).peekable();
        if linked.peek().is_none() {
            return;
        }
        self.scope = WatchFilter::new(workspace, graph, trees);
        self.cover();
        linked.for_each(|component| self.trees.changed(Path::new(&component.dir())));
    }

    /// Finds out which external bases read more than the Dockerfiles say; a round finds
    /// out the rest.
    async fn ask_of_bases(&self) {
        let Some(reading) = &self.reading else { return };
        let (workspace, _) = &**reading;
        let named = self.registry.as_ref().map(RegistryConfig::names);
        let names: HashSet<&str> =
            workspace.images().map(|(_, image)| image.name.as_str()).collect();
        let is_local = |used: &ImageUse| {
            let name = used.local_name(named.as_ref());
            name.is_some_and(|name| names.contains(name))
        };
        let mut found = ExternalBases::new();
        for (place, image) in workspace.images() {
            let bases = base_images::to_ask(image, is_local);
            for used in &bases {
                if !found.contains_key(&used.reference) {
                    let base = self.engine.image(&used.reference).await.unwrap_or_default();
                    found.insert(used.reference.clone(), base);
                }
            }
            let selection = ContextSpec::own(&workspace.components[place], image);
            self.trees.set_whole(&selection, base_images::read_all(image, &bases, &found));
        }
    }

    fn tell_workspace(&self, workspace: &Workspace, graph: &Graph) {
        let name = |place: usize| workspace.components[place].name.clone();
        let looked_after = looked_after(workspace, graph, &self.options.build.components);
        let order = graph.order().iter().filter(|place| looked_after.contains(place));
        let planned = |place: &usize| PlannedComponent {
            component: name(*place),
            needs: graph.dependencies(*place).into_iter().map(name).collect(),
            estimate: None,
        };
        let components = order.map(planned).collect();
        self.ctx.events.send(Event::WorkspaceRead { components });
    }

    /// Everything is taken for made from what is there.
    pub(crate) async fn note_all(&mut self) {
        if let Some(reading) = self.reading.clone() {
            let all: BTreeSet<usize> = (0..reading.0.components.len()).collect();
            let now = states(&reading, &self.trees, all.clone()).await;
            self.made.set(&reading.0, &now, &all);
        }
    }

    /// The components that were asked for, with what they need.
    pub(crate) fn looked_after(&self) -> BTreeSet<usize> {
        let Some(reading) = &self.reading else { return BTreeSet::new() };
        let (workspace, graph) = &**reading;
        looked_after(workspace, graph, &self.options.build.components)
    }
}

/// These and all that they need; everything without names, or with wrong ones.
fn looked_after(workspace: &Workspace, graph: &Graph, names: &[String]) -> BTreeSet<usize> {
    match workspace.find_all(names) {
        Ok(named) if !named.is_empty() => graph.closure(&named),
        _ => (0..workspace.components.len()).collect(),
    }
}
