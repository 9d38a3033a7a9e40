//! The dependency graph of components, and their build order.
//!
//! An edge points from a component to a dependency. It records the file and line of its
//! origin, which users need to break a cycle. Images of the same component have no edges
//! between them: they are built in one step, in the order of [`Graph::images`]. The build
//! order is topological, with ties broken alphabetically, so it is the same on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use petgraph::algo::{astar, tarjan_scc};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::dockerfile::parser::{ImageUse, Via};
use crate::escape;
use crate::ids::{ComponentId, Id, IdVec, ImageId};
use crate::problem::Problem;
use crate::workspace::components::{Component, Image, Workspace};

/// The origin of a dependency between two components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// How the dependency is declared.
    pub kind: EdgeKind,
    /// The file that declares it, relative to the root.
    pub file: String,
    /// The line in the file, starting at 1.
    pub line: usize,
    /// The image that has the instruction, and the image that it uses, each in its component;
    /// `None` for [`EdgeKind::Declared`].
    pub images: Option<(ImageId, ImageId)>,
}

/// How a dependency is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// A line of `component.dep`.
    Declared,
    /// An instruction of a Dockerfile.
    Image(Via),
}

impl fmt::Display for EdgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared => f.write_str("component.dep"),
            Self::Image(via) => via.fmt(f),
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            EdgeKind::Declared => write!(f, "{}:{}", self.file, self.line),
            EdgeKind::Image(via) => write!(f, "{}:{} ({via})", self.file, self.line),
        }
    }
}

/// The direction in which to follow edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a component to its dependencies.
    Dependencies,
    /// From a component to its dependents.
    Dependents,
}

impl Direction {
    /// The opposite direction.
    pub fn reversed(self) -> Self {
        match self {
            Self::Dependencies => Self::Dependents,
            Self::Dependents => Self::Dependencies,
        }
    }
}

/// An image in the build order of its component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOrder {
    /// The image.
    pub id: ImageId,
    /// The component's other images that it uses.
    pub needs: Vec<ImageId>,
}

/// The dependency graph of a workspace.
#[derive(Debug)]
pub struct Graph {
    edges: DiGraph<(), Edge>,
    order: Vec<ComponentId>,
    images: IdVec<ComponentId, Vec<ImageOrder>>,
    /// The components of each cycle, and its problem.
    cycles: Vec<(BTreeSet<ComponentId>, Problem)>,
}

impl Graph {
    /// Resolves all dependencies. What is wrong with a component is added to its problems.
    pub fn resolve(workspace: &mut Workspace) -> Self {
        let mut problems: IdVec<ComponentId, Vec<Problem>> =
            workspace.components.iter().map(|_| Vec::new()).collect();
        let graph = Self::find(workspace, &mut problems);
        for (component, found) in workspace.components.iter_mut().zip(problems) {
            component.problems.extend(found);
        }
        graph
    }

    fn find(workspace: &Workspace, problems: &mut IdVec<ComponentId, Vec<Problem>>) -> Self {
        let mut edges = DiGraph::new();
        for _ in &workspace.components {
            edges.add_node(());
        }
        let images_by_name = images_by_name(workspace);
        for (id, component) in workspace.components.enumerate() {
            for (dependency, edge) in declared_edges(workspace, component, &mut problems[id])
                .into_iter()
                .chain(image_edges(component, &images_by_name))
            {
                let is_own_image = dependency == id && edge.kind != EdgeKind::Declared;
                if !is_own_image {
                    edges.add_edge(node(id), node(dependency), edge);
                }
            }
        }
        let name = |node| workspace.components[id_of(node)].name.as_str();
        let cycles = cycles(&edges, name, "depends on");
        let components = workspace.components.iter().zip(problems.iter_mut());
        let images =
            components.map(|(component, problems)| image_order(component, problems)).collect();
        let order = topological(&edges);
        Self { edges, order, images, cycles }
    }

    /// The problems of the cycles among these components.
    pub fn cycles(&self, components: &BTreeSet<ComponentId>) -> Vec<Problem> {
        let cycles = self.cycles.iter();
        let found = cycles.filter(|(members, _)| !members.is_disjoint(components));
        found.map(|(_, problem)| problem.clone()).collect()
    }

    /// All problems of these components, and of the cycles among them.
    pub fn problems(
        &self,
        workspace: &Workspace,
        components: &BTreeSet<ComponentId>,
    ) -> Vec<Problem> {
        let own = components.iter().flat_map(|id| &workspace.components[*id].problems);
        own.cloned().chain(self.cycles(components)).collect()
    }

    /// All components in build order: each after its dependencies. Components on a cycle are
    /// omitted.
    pub fn order(&self) -> &[ComponentId] {
        &self.order
    }

    /// All edges: the component, its dependency, and the origin of the edge.
    pub fn edges(&self) -> impl Iterator<Item = (ComponentId, ComponentId, &Edge)> {
        let edges = self.edges.edge_references();
        edges.map(|edge| (id_of(edge.source()), id_of(edge.target()), edge.weight()))
    }

    /// The images of a component in build order.
    pub fn images(&self, component: ComponentId) -> &[ImageOrder] {
        &self.images[component]
    }

    /// The direct dependencies of a component, sorted.
    pub fn dependencies(&self, component: ComponentId) -> BTreeSet<ComponentId> {
        self.neighbors(component, Direction::Dependencies)
    }

    /// The direct dependencies whose folders a component gets under `dependency/`, sorted.
    pub fn received(&self, workspace: &Workspace, component: ComponentId) -> BTreeSet<ComponentId> {
        let is_configured = workspace.components[component].is_configured;
        let edges = self.edges.edges(node(component));
        let received =
            edges.filter(|edge| !is_configured || edge.weight().kind == EdgeKind::Declared);
        received.map(|edge| id_of(edge.target())).collect()
    }

    /// The direct dependencies or dependents of a component, sorted.
    pub fn neighbors(&self, component: ComponentId, direction: Direction) -> BTreeSet<ComponentId> {
        let direction = match direction {
            Direction::Dependencies => petgraph::Direction::Outgoing,
            Direction::Dependents => petgraph::Direction::Incoming,
        };
        self.edges.neighbors_directed(node(component), direction).map(id_of).collect()
    }

    /// These components and all others that are at most `depth` edges away from them.
    pub fn reachable(
        &self,
        components: &BTreeSet<ComponentId>,
        direction: Direction,
        depth: usize,
    ) -> BTreeSet<ComponentId> {
        let mut found = components.clone();
        let mut last = components.clone();
        for _ in 0..depth {
            let next = last.iter().flat_map(|component| self.neighbors(*component, direction));
            last = next.filter(|component| found.insert(*component)).collect();
            if last.is_empty() {
                break;
            }
        }
        found
    }

    /// These components and all their direct and indirect dependencies.
    pub fn closure(&self, components: &BTreeSet<ComponentId>) -> BTreeSet<ComponentId> {
        self.reachable(components, Direction::Dependencies, usize::MAX)
    }

    /// These components and all their direct and indirect dependents.
    pub fn dependents(&self, components: &BTreeSet<ComponentId>) -> BTreeSet<ComponentId> {
        self.reachable(components, Direction::Dependents, usize::MAX)
    }
}

/// Nodes are added in the order of their ids.
fn node(id: impl Id) -> NodeIndex {
    NodeIndex::new(id.place())
}

fn id_of<I: Id>(node: NodeIndex) -> I {
    I::at(node.index())
}

/// For each image name, its component and its image there.
fn images_by_name(workspace: &Workspace) -> BTreeMap<&str, (ComponentId, ImageId)> {
    let images = workspace.components.enumerate().flat_map(|(owner, component)| {
        let images = component.images.enumerate();
        images.map(move |(id, image)| (image.name.as_str(), (owner, id)))
    });
    images.collect()
}

fn declared_edges(
    workspace: &Workspace,
    component: &Component,
    problems: &mut Vec<Problem>,
) -> Vec<(ComponentId, Edge)> {
    let mut edges = Vec::new();
    for declared in &component.declared {
        match workspace.depended_on(&declared.component) {
            Some(dependency) if workspace.components[dependency].dir.is_empty() => {
                let message = "is the component in the root, whose folder cannot be a part of \
                               another: use its image in FROM or COPY --from";
                let name = escape::line(&declared.component);
                problems.push(declared.problem(&format!("'{name}' {message}")));
            }
            Some(dependency) => {
                let (file, line) = (declared.file.clone(), declared.line);
                edges.push((
                    dependency,
                    Edge { kind: EdgeKind::Declared, file, line, images: None },
                ));
            }
            None => {
                let message = workspace.unknown_component(&declared.component);
                problems.push(declared.problem(&message));
            }
        }
    }
    edges
}

fn image_edges(
    component: &Component,
    images_by_name: &BTreeMap<&str, (ComponentId, ImageId)>,
) -> Vec<(ComponentId, Edge)> {
    let mut edges = Vec::new();
    for (id, image) in component.images.enumerate() {
        for used in &image.uses {
            let found = used.local.as_deref().and_then(|name| images_by_name.get(name));
            if let Some((owner, used_image)) = found {
                edges.push((*owner, edge(image, used, (id, *used_image))));
            }
        }
    }
    edges
}

fn edge(image: &Image, used: &ImageUse, images: (ImageId, ImageId)) -> Edge {
    let (file, line) = (image.dockerfile.clone(), used.line);
    Edge { kind: EdgeKind::Image(used.via), file, line, images: Some(images) }
}

/// Orders a component's images so that each is built after those that it uses.
fn image_order(component: &Component, problems: &mut Vec<Problem>) -> Vec<ImageOrder> {
    let ids: BTreeMap<&str, ImageId> =
        component.images.enumerate().map(|(id, image)| (image.name.as_str(), id)).collect();
    let mut edges = DiGraph::new();
    for _ in &component.images {
        edges.add_node(());
    }
    for (id, image) in component.images.enumerate() {
        for used in &image.uses {
            if let Some(used_image) = used.local.as_deref().and_then(|name| ids.get(name)) {
                let edge = edge(image, used, (id, *used_image));
                edges.add_edge(node(id), node(*used_image), edge);
            }
        }
    }
    let name = |node| component.images[id_of(node)].name.as_str();
    let cycles = cycles::<ImageId>(&edges, name, "uses");
    problems.extend(cycles.into_iter().map(|(_, problem)| problem));
    let needs = |image: ImageId| {
        let neighbors: BTreeSet<_> = edges.neighbors(node(image)).collect();
        neighbors.into_iter().map(id_of).collect()
    };
    topological(&edges).into_iter().map(|id| ImageOrder { id, needs: needs(id) }).collect()
}

/// Kahn's algorithm, taking the lowest node first. Nodes on a cycle are omitted.
fn topological<I: Id>(edges: &DiGraph<(), Edge>) -> Vec<I> {
    let dependencies = |node: NodeIndex| edges.neighbors(node).collect::<BTreeSet<_>>().len();
    let mut unmet: Vec<usize> = edges.node_indices().map(dependencies).collect();
    let mut ready: BTreeSet<NodeIndex> =
        edges.node_indices().filter(|node| unmet[node.index()] == 0).collect();
    let mut order = Vec::with_capacity(edges.node_count());
    while let Some(node) = ready.pop_first() {
        order.push(id_of(node));
        let dependents: BTreeSet<NodeIndex> =
            edges.neighbors_directed(node, petgraph::Direction::Incoming).collect();
        for dependent in dependents {
            unmet[dependent.index()] -= 1;
            if unmet[dependent.index()] == 0 {
                ready.insert(dependent);
            }
        }
    }
    order
}

/// One problem for each strongly connected component: a shortest cycle, with the origin of
/// each edge. `verb` describes an edge.
fn cycles<'a, I: Id + Ord>(
    edges: &DiGraph<(), Edge>,
    name: impl Fn(NodeIndex) -> &'a str,
    verb: &str,
) -> Vec<(BTreeSet<I>, Problem)> {
    let mut found = Vec::new();
    let has_self_edge = |node: &NodeIndex| edges.contains_edge(*node, *node);
    let is_cycle = |group: &Vec<_>| group.len() > 1 || group.iter().any(has_self_edge);
    for group in tarjan_scc(edges).into_iter().filter(is_cycle) {
        let Some(cycle) = group.iter().min().and_then(|start| cycle_from(edges, *start)) else {
            continue;
        };
        let path: Vec<_> = cycle.iter().map(|node| escape::line(name(*node))).collect();
        let mut message = format!("dependency cycle: {}", path.join(" → "));
        for pair in cycle.windows(2) {
            let origin = edges.edges_connecting(pair[0], pair[1]).map(|edge| edge.weight()).next();
            if let Some(edge) = origin {
                let (from, to) = (name(pair[0]), name(pair[1]));
                let line = format!("{from} {verb} {to}: {edge}");
                message.push_str(&format!("\n  {}", escape::line(&line)));
            }
        }
        found.push((group.into_iter().map(id_of).collect(), Problem::of_request(message)));
    }
    found
}

/// A shortest cycle through `start`, which is its first and last node.
fn cycle_from(edges: &DiGraph<(), Edge>, start: NodeIndex) -> Option<Vec<NodeIndex>> {
    edges
        .edges(start)
        .filter_map(|edge| astar(edges, edge.target(), |node| node == start, |_| 1, |_| 0))
        .min()
        .map(|(_, path)| std::iter::once(start).chain(path).collect())
}
