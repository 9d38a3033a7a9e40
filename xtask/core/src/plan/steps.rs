//! The plan of a build: its steps and tasks, in order.
//!
//! A plan is computed from the graph alone, before anything runs. It says which components
//! are built, in which order, and which dependencies each of them receives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::context::spec::{ContextSpec, DependencyFolder};
use crate::dockerfile::parser::ImageUse;
use crate::ids::{ComponentId, IdVec, ImageId, StepId, TaskId};
use crate::plan::graph::{Graph, ImageOrder};
use crate::workspace::components::{Image, Workspace};

/// The steps of one round.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps in build order.
    pub steps: IdVec<StepId, Step>,
}

/// The build of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The component.
    pub component: ComponentId,
    /// The images of the component, in build order.
    pub images: Vec<ImageOrder>,
    /// Whether it was selected by the user, by name or because everything is built. Otherwise
    /// it is only a dependency.
    pub is_named: bool,
    /// The direct dependencies.
    pub dependencies: Vec<ComponentId>,
    /// Those of them that it receives under `dependency/`.
    pub received: Vec<ComponentId>,
}

impl Step {
    /// The context of an image. If the component has a `build-pre.sh`, its dependencies are
    /// copied into its own folder, and the context has none. `cached` holds the paths of cached
    /// `generated/` folders, relative to the root, by component name.
    pub fn context_spec(
        &self,
        workspace: &Workspace,
        image: &Image,
        cached: &BTreeMap<String, PathBuf>,
    ) -> ContextSpec {
        let component = &workspace.components[self.component];
        let is_copied = component.pre_hook.is_some();
        let dependencies =
            if is_copied { Vec::new() } else { self.dependency_folders(workspace, cached) };
        ContextSpec { dependencies, ..ContextSpec::own(image) }
    }

    /// The dependencies that the component receives. `cached` is as in [`Step::context_spec`].
    pub fn dependency_folders(
        &self,
        workspace: &Workspace,
        cached: &BTreeMap<String, PathBuf>,
    ) -> Vec<DependencyFolder> {
        let received = self.received.iter().map(|id| &workspace.components[*id]);
        received
            .map(|component| DependencyFolder {
                generated: cached.get(&component.name).cloned(),
                ..DependencyFolder::of(component)
            })
            .collect()
    }
}

/// A unit of work that is scheduled on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its step.
    pub step: StepId,
    /// The part of the step that it runs.
    pub kind: TaskKind,
    /// The tasks that must be done before.
    pub needs: Vec<TaskId>,
}

/// The part of a step that a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Everything before the images, such as `build-pre.sh`.
    Begin,
    /// One image of the component.
    Image(ImageId),
    /// Everything after the images, such as `build-post.sh`.
    End,
}

impl Plan {
    /// The plan to build the `selected` components and their dependencies, or all components
    /// if `selected` is `None`.
    pub fn new(
        workspace: &Workspace,
        graph: &Graph,
        selected: Option<&BTreeSet<ComponentId>>,
    ) -> Self {
        let wanted = match selected {
            None => workspace.components.ids().collect(),
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
                received: graph.received(workspace, component).into_iter().collect(),
            })
            .collect();
        Self { steps }
    }

    /// The components whose folders are read: those of all steps and their dependencies.
    pub fn components_read(&self) -> BTreeSet<ComponentId> {
        let steps = self.steps.iter();
        steps.flat_map(|step| step.dependencies.iter().chain([&step.component])).copied().collect()
    }

    /// The names of the images of all steps, including the references by which Dockerfiles use
    /// them, such as names in a registry.
    pub fn image_names(&self, workspace: &Workspace) -> BTreeSet<String> {
        let components = self.steps.iter().map(|step| &workspace.components[step.component]);
        // A broken component is not built, and its images may have names that no engine knows.
        let whole = components.filter(|component| component.problems.is_empty());
        let images = whole.flat_map(|component| &component.images);
        let own: BTreeSet<&str> = images.map(|image| image.name.as_str()).collect();
        let uses = workspace.images().flat_map(|(_, image)| &image.uses);
        let others = uses.filter(|used| used.local.as_deref().is_some_and(|it| own.contains(it)));
        others.map(ImageUse::repository).chain(own.iter().copied()).map(str::to_owned).collect()
    }

    /// The tasks of all steps, each after those that it needs.
    pub fn tasks(&self) -> IdVec<TaskId, Task> {
        let mut tasks = IdVec::new();
        let mut ends: BTreeMap<ComponentId, TaskId> = BTreeMap::new();
        for (id, step) in self.steps.enumerate() {
            let needs = step.dependencies.iter().filter_map(|needed| ends.get(needed)).copied();
            let needs = needs.collect();
            let begin = tasks.push(Task { step: id, kind: TaskKind::Begin, needs });
            let mut images: BTreeMap<ImageId, TaskId> = BTreeMap::new();
            for image in &step.images {
                let own = image.needs.iter().filter_map(|needed| images.get(needed)).copied();
                let needs = std::iter::once(begin).chain(own).collect();
                let kind = TaskKind::Image(image.id);
                images.insert(image.id, tasks.push(Task { step: id, kind, needs }));
            }
            let needs = std::iter::once(begin).chain(images.into_values()).collect();
            let end = tasks.push(Task { step: id, kind: TaskKind::End, needs });
            ends.insert(step.component, end);
        }
        tasks
    }
}
