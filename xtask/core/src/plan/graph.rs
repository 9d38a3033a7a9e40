//! How components hang together: who needs whom, why, and in which order they
//! are built.
//!
//! An edge points from a component to one that it needs and keeps the file and
//! line that say so, because that is what a person has to look at when a cycle
//! must be broken. Two images of one component need no edge: they are built in
//! one step, in the order of [`Graph::images`]. The build order is topological
//! and, where the graph leaves a choice, alphabetical, so that it is the same
//! on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use petgraph::algo::{astar, tarjan_scc};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::dockerfile::parser::{ImageUse, Via};
use crate::escape;
use crate::image_reference::RegistryNames;
use crate::problem::Problem;
use crate::workspace::components::{Component, Image, Workspace};

/// Why one component needs another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What says so.
    pub kind: EdgeKind,
    /// The file that says so, relative to the root.
    pub file: String,
    /// The line in it, from 1.
    pub line: usize,
    /// Which image of the one is made from which of the other, by their places, if an
    /// instruction says so.
    pub images: Option<(usize, usize)>,
}

/// What says that one component needs another.
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

/// Which way to go along edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To what a component needs.
    Dependencies,
    /// To what needs it.
    Dependents,
}

impl Direction {
    /// The other way.
    pub fn reversed(self) -> Self {
        match self {
            Self::Dependencies => Self::Dependents,
            Self::Dependents => Self::Dependencies,
        }
    }
}

/// An image's place in its component's build order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOrder {
    /// The image's place in the component.
    pub place: usize,
    /// The places of the component's other images that it is made from.
    pub needs: Vec<usize>,
}

/// The components of a workspace and what they need.
#[derive(Debug)]
pub struct Graph {
    edges: DiGraph<(), Edge>,
    order: Vec<usize>,
    images: Vec<Vec<ImageOrder>>,
}

impl Graph {
    /// Resolves what each component needs. `registry` has the names
    /// under which images are ours too. Names that lead
    /// nowhere and cycles are added to `problems`.
    pub fn resolve(
        workspace: &Workspace,
        registry: Option<&RegistryNames>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut edges = DiGraph::new();
        for _ in &workspace.components {
            edges.add_node(());
        }
        let owners = owners(workspace);
        for (index, component) in workspace.components.iter().enumerate() {
            for (needed, edge) in declared_edges(workspace, component, problems)
                .into_iter()
                .chain(image_edges(component, &owners, registry))
            {
                let is_own_image = needed == index && edge.kind != EdgeKind::Declared;
                if !is_own_image {
                    edges.add_edge(NodeIndex::new(index), NodeIndex::new(needed), edge);
                }
            }
        }
        let name = |node: NodeIndex| workspace.components[node.index()].name.as_str();
        report_cycles(&edges, name, "needs", problems);
        let images = workspace
            .components
            .iter()
            .map(|component| image_order(component, registry, problems))
            .collect();
        let order = topological(&edges);
        Self { edges, order, images }
    }

    /// All components, every one after those that it needs.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// All that components need of others: who, whom and why.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize, &Edge)> {
        let edges = self.edges.edge_references();
        edges.map(|edge| (edge.source().index(), edge.target().index(), edge.weight()))
    }

    /// A component's images in their build order.
    pub fn images(&self, component: usize) -> &[ImageOrder] {
        &self.images[component]
    }

    /// What a component needs directly, sorted.
    pub fn dependencies(&self, component: usize) -> BTreeSet<usize> {
        self.next(component, Direction::Dependencies)
    }

    /// What a component needs, or what needs it, directly, sorted.
    pub fn next(&self, component: usize, direction: Direction) -> BTreeSet<usize> {
        let direction = match direction {
            Direction::Dependencies => petgraph::Direction::Outgoing,
            Direction::Dependents => petgraph::Direction::Incoming,
        };
        let next = self.edges.neighbors_directed(NodeIndex::new(component), direction);
        next.map(NodeIndex::index).collect()
    }

    /// The named components and all that is at most so many steps away from them.
    pub fn reach(
        &self,
        components: &BTreeSet<usize>,
        direction: Direction,
        depth: usize,
    ) -> BTreeSet<usize> {
        let mut found = components.clone();
        let mut last = components.clone();
        for _ in 0..depth {
            let next = last.iter().flat_map(|component| self.next(*component, direction));
            last = next.filter(|component| found.insert(*component)).collect();
            if last.is_empty() {
                break;
            }
        }
        found
    }

    /// The named components and everything that they need, directly or not.
    pub fn closure(&self, components: &BTreeSet<usize>) -> BTreeSet<usize> {
        self.reach(components, Direction::Dependencies, usize::MAX)
    }

    /// The named components and everything that needs them, directly or not.
    pub fn dependents(&self, components: &BTreeSet<usize>) -> BTreeSet<usize> {
        self.reach(components, Direction::Dependents, usize::MAX)
    }
}

/// By name, whose an image is, and its place there.
fn owners(workspace: &Workspace) -> BTreeMap<&str, (usize, usize)> {
    let places = workspace.components.iter().enumerate().flat_map(|(component, it)| {
        let names = it.images.iter().map(|image| image.name.as_str()).enumerate();
        names.map(move |(place, name)| (name, (component, place)))
    });
    places.collect()
}

fn declared_edges(
    workspace: &Workspace,
    component: &Component,
    problems: &mut Vec<Problem>,
) -> Vec<(usize, Edge)> {
    let mut edges = Vec::new();
    for declared in &component.declared {
        match workspace.find(&declared.component) {
            Some(needed) => {
                let (file, line) = (declared.file.clone(), declared.line);
                edges.push((needed, Edge { kind: EdgeKind::Declared, file, line, images: None }));
            }
            None => problems.push(Problem::of_line(
                &declared.file,
                declared.line,
                workspace.no_component(&declared.component),
            )),
        }
    }
    edges
}

fn image_edges(
    component: &Component,
    owners: &BTreeMap<&str, (usize, usize)>,
    registry: Option<&RegistryNames>,
) -> Vec<(usize, Edge)> {
    let mut edges = Vec::new();
    for (place, image) in component.images.iter().enumerate() {
        for used in &image.uses {
            let name = used.local_name(registry);
            if let Some((owner, of_owner)) = name.and_then(|name| owners.get(name)) {
                edges.push((*owner, edge(image, used, (place, *of_owner))));
            }
        }
    }
    edges
}

fn edge(image: &Image, used: &ImageUse, images: (usize, usize)) -> Edge {
    let (file, line) = (image.dockerfile.clone(), used.line);
    Edge { kind: EdgeKind::Image(used.via), file, line, images: Some(images) }
}

/// Orders a component's images by what they use of each other.
fn image_order(
    component: &Component,
    registry: Option<&RegistryNames>,
    problems: &mut Vec<Problem>,
) -> Vec<ImageOrder> {
    let places: BTreeMap<&str, usize> = component
        .images
        .iter()
        .enumerate()
        .map(|(place, image)| (image.name.as_str(), place))
        .collect();
    let mut edges = DiGraph::new();
    for _ in &component.images {
        edges.add_node(());
    }
    for (place, image) in component.images.iter().enumerate() {
        for used in &image.uses {
            let name = used.local_name(registry);
            if let Some(needed) = name.and_then(|name| places.get(name)) {
                let edge = edge(image, used, (place, *needed));
                edges.add_edge(NodeIndex::new(place), NodeIndex::new(*needed), edge);
            }
        }
    }
    let name = |node: NodeIndex| component.images[node.index()].name.as_str();
    report_cycles(&edges, name, "is made from", problems);
    let needs = |place: usize| {
        let needed: BTreeSet<_> = edges.neighbors(NodeIndex::new(place)).collect();
        needed.into_iter().map(NodeIndex::index).collect()
    };
    topological(&edges).into_iter().map(|place| ImageOrder { place, needs: needs(place) }).collect()
}

/// Kahn's algorithm with the lowest place first; nodes on a cycle are left out.
fn topological(edges: &DiGraph<(), Edge>) -> Vec<usize> {
    let unbuilt = |node: NodeIndex| edges.neighbors(node).collect::<BTreeSet<_>>().len();
    let mut waits_for: Vec<usize> = edges.node_indices().map(unbuilt).collect();
    let mut ready: BTreeSet<NodeIndex> =
        edges.node_indices().filter(|node| waits_for[node.index()] == 0).collect();
    let mut order = Vec::with_capacity(edges.node_count());
    while let Some(node) = ready.pop_first() {
        order.push(node.index());
        let dependents: BTreeSet<NodeIndex> =
            edges.neighbors_directed(node, petgraph::Direction::Incoming).collect();
        for dependent in dependents {
            waits_for[dependent.index()] -= 1;
            if waits_for[dependent.index()] == 0 {
                ready.insert(dependent);
            }
        }
    }
    order
}

/// One problem for each group of nodes that need each other: the shortest way
/// round, with the file behind each edge.
fn report_cycles<'a>(
    edges: &DiGraph<(), Edge>,
    name: impl Fn(NodeIndex) -> &'a str,
    needs: &str,
    problems: &mut Vec<Problem>,
) {
    let needs_itself = |node: &NodeIndex| edges.contains_edge(*node, *node);
    let is_cycle = |group: &Vec<_>| group.len() > 1 || group.iter().any(needs_itself);
    for group in tarjan_scc(edges).into_iter().filter(is_cycle) {
        let Some(cycle) = group.iter().min().and_then(|start| cycle_from(edges, *start)) else {
            continue;
        };
        let path: Vec<_> = cycle.iter().map(|node| escape::line(name(*node))).collect();
        let mut message = format!("dependency cycle: {}", path.join(" → "));
        for pair in cycle.windows(2) {
            let reason = edges.edges_connecting(pair[0], pair[1]).map(|edge| edge.weight()).next();
            if let Some(edge) = reason {
                let (from, to) = (name(pair[0]), name(pair[1]));
                let line = format!("{from} {needs} {to}: {edge}");
                message.push_str(&format!("\n  {}", escape::line(&line)));
            }
        }
        problems.push(Problem::of_request(message));
    }
}

/// The shortest way from `start` back to itself, both ends included.
fn cycle_from(edges: &DiGraph<(), Edge>, start: NodeIndex) -> Option<Vec<NodeIndex>> {
    edges
        .edges(start)
        .filter_map(|edge| astar(edges, edge.target(), |node| node == start, |_| 1, |_| 0))
        .min()
        .map(|(_, path)| std::iter::once(start).chain(path).collect())
}
