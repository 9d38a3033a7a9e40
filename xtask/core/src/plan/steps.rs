//! What a build will do, in order.
//!
//! A plan is worked out before anything runs, from the graph alone: which
//! components take part, in which order, and where each gets its dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::context::spec::{ContextSpec, DependencyFolder};
use crate::dockerfile::parser::ImageUse;
use crate::image_reference::RegistryNames;
use crate::plan::graph::{Graph, ImageOrder};
use crate::workspace::components::{Image, Workspace};

/// The steps of one round.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// In build order.
    pub steps: Vec<Step>,
}

/// One component's part of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The component's place in the workspace.
    pub component: usize,
    /// Its images, in build order.
    pub images: Vec<ImageOrder>,
    /// Whether it was asked for by name, or everything was; else others need it.
    pub is_named: bool,
    /// The components whose folders it gets under `dependency/`.
    pub dependencies: Vec<usize>,
}

impl Step {
    /// What the context of an image is made from. A component with a `build-pre.sh` has its
    /// dependencies in its own folder; `kept` tells where the `generated/` of others
    /// is, by component, if it is not in their folders.
    pub fn selection(
        &self,
        workspace: &Workspace,
        image: &Image,
        kept: &BTreeMap<String, PathBuf>,
    ) -> ContextSpec {
        let component = &workspace.components[self.component];
        let is_copied = component.pre_hook.is_some();
        let needed = if is_copied { Vec::new() } else { self.needed(workspace, kept) };
        ContextSpec { needed, ..ContextSpec::own(component, image) }
    }

    /// What the component gets of those that it needs.
    pub fn needed(
        &self,
        workspace: &Workspace,
        kept: &BTreeMap<String, PathBuf>,
    ) -> Vec<DependencyFolder> {
        let names = self.dependencies.iter().map(|place| &workspace.components[*place].name);
        names
            .map(|name| DependencyFolder { name: name.clone(), generated: kept.get(name).cloned() })
            .collect()
    }
}

/// A part of a step that runs by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The place of its step.
    pub step: usize,
    /// Which part.
    pub kind: TaskKind,
    /// The places of the parts that must be done before.
    pub needs: Vec<usize>,
}

/// What a part of a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// All that comes before the images.
    Begin,
    /// One image, by its place in the component.
    Image(usize),
    /// All that comes after them.
    End,
}

impl Plan {
    /// A plan for `selected` and what they need; for everything without a selection.
    pub fn new(workspace: &Workspace, graph: &Graph, selected: Option<&BTreeSet<usize>>) -> Self {
        let wanted = match selected {
            None => (0..workspace.components.len()).collect(),
            Some(selected) => graph.closure(selected),
        };
        let steps = graph
            .order()
            .iter()
            .filter(|component| wanted.contains(component))
            .filter(|component| workspace.components[**component].builds())
            .map(|&component| Step {
                component,
                is_named: selected.is_none_or(|selected| selected.contains(&component)),
                images: graph.images(component).to_vec(),
                dependencies: graph.dependencies(component).into_iter().collect(),
            })
            .collect();
        Self { steps }
    }

    /// The components whose folders are read: those of the steps, and what these need.
    pub fn taking_part(&self) -> BTreeSet<usize> {
        let steps = self.steps.iter();
        steps.flat_map(|step| step.dependencies.iter().chain([&step.component])).copied().collect()
    }

    /// The names of the images of all steps, also those by which other Dockerfiles call
    /// them, those in the `registry` too.
    pub fn names(
        &self,
        workspace: &Workspace,
        registry: Option<&RegistryNames>,
    ) -> BTreeSet<String> {
        let components = self.steps.iter().map(|step| &workspace.components[step.component]);
        let images = components.flat_map(|component| &component.images);
        let own: BTreeSet<&str> = images.map(|image| image.name.as_str()).collect();
        let uses = workspace.images().flat_map(|(_, image)| &image.uses);
        let others = uses.filter(|used| {
            let name = used.local_name(registry);
            name.is_some_and(|name| own.contains(name))
        });
        others.map(ImageUse::repository).chain(own.iter().copied()).map(str::to_owned).collect()
    }

    /// The parts of all steps, each after those that it needs.
    pub fn parts(&self) -> Vec<Task> {
        let mut parts: Vec<Task> = Vec::new();
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        for (place, step) in self.steps.iter().enumerate() {
            let begin = parts.len();
            let needs = step.dependencies.iter().filter_map(|needed| ends.get(needed)).copied();
            parts.push(Task { step: place, kind: TaskKind::Begin, needs: needs.collect() });
            let mut images: BTreeMap<usize, usize> = BTreeMap::new();
            for image in &step.images {
                let own = image.needs.iter().filter_map(|needed| images.get(needed)).copied();
                let needs = std::iter::once(begin).chain(own).collect();
                images.insert(image.place, parts.len());
                parts.push(Task { step: place, kind: TaskKind::Image(image.place), needs });
            }
            let needs = std::iter::once(begin).chain(images.into_values()).collect();
            ends.insert(step.component, parts.len());
            parts.push(Task { step: place, kind: TaskKind::End, needs });
        }
        parts
    }
}
