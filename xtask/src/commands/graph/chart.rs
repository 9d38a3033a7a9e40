//! The graph as it is drawn, independent of the output format.
//!
//! Everything is sorted, components by name and links by their ends. So the same workspace
//! always results in the same drawing, and a small change in a small difference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xtask_core::ids::{ComponentId, IdVec, ImageId};
use xtask_core::plan::graph::{Direction, EdgeKind, Graph};
use xtask_core::workspace::components::Workspace;

use crate::commands::graph::choice::Choice;
use crate::outcome::PlannedStep;
use crate::system::records::Records;

#[derive(Debug)]
pub(crate) struct Chart {
    /// The components, sorted by name, then external images, sorted by reference.
    pub(crate) nodes: Vec<Node>,
    /// Sorted by the indices of their ends, and by kind.
    pub(crate) links: Vec<Link>,
    /// The direction of a tree.
    pub(crate) direction: Direction,
    /// Whether it marks what changed since a revision.
    pub(crate) is_marked: bool,
    /// The nodes that the user selected; empty for all.
    named: Vec<usize>,
}

/// A component or an external image.
#[derive(Debug)]
pub(crate) struct Node {
    /// The component's name, or the image's reference.
    pub(crate) name: String,
    pub(crate) content: Content,
    /// What a build would do with it, with `--stale`.
    pub(crate) expected: Option<PlannedStep>,
    /// Its previous build time, with `--durations`.
    pub(crate) duration: Option<Duration>,
    /// Whether it is on the critical path.
    pub(crate) is_critical: bool,
    /// Whether it changed, with `--since`.
    pub(crate) mark: Option<Mark>,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// A component with its images, sorted by name.
    Component(IdVec<ImageId, ChartImage>),
    /// An image that no component builds.
    External,
}

#[derive(Debug)]
pub(crate) struct ChartImage {
    pub(crate) name: String,
    /// Relative to the root.
    pub(crate) dockerfile: String,
    /// The component's other images that it uses.
    pub(crate) needs: Vec<ImageId>,
}

/// How a change affects a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It changed itself.
    Changed,
    /// One of its direct or indirect dependencies changed.
    Reached,
}

/// All edges of one kind between two nodes.
#[derive(Debug)]
pub(crate) struct Link {
    /// The index of the dependent node.
    pub(crate) from: usize,
    /// The index of its dependency.
    pub(crate) to: usize,
    pub(crate) kind: EdgeKind,
    /// The files and lines that declare the dependency.
    pub(crate) lines: Vec<(String, usize)>,
    /// The images that use another image, with that image; `None` if it is external.
    pub(crate) images: LinkedImages,
}

type LinkedImages = BTreeSet<(ImageId, Option<ImageId>)>;

type Links = BTreeMap<(usize, usize, EdgeKind), (Vec<(String, usize)>, LinkedImages)>;

impl Chart {
    pub(crate) fn new(workspace: &Workspace, graph: &Graph, choice: &Choice) -> Self {
        let shown: Vec<ComponentId> = choice.shown.iter().copied().collect();
        let node = |id: &ComponentId| {
            let component = &workspace.components[*id];
            let mut images: IdVec<ImageId, ChartImage> = component
                .images
                .iter()
                .map(|image| ChartImage {
                    name: image.name.clone(),
                    dockerfile: image.dockerfile.clone(),
                    needs: Vec::new(),
                })
                .collect();
            for order in graph.images(*id) {
                images[order.id].needs.clone_from(&order.needs);
            }
            Node::new(component.name.clone(), Content::Component(images))
        };
        let mut links = Links::new();
        for (from, to, edge) in graph.edges() {
            if let (Ok(from), Ok(to)) = (shown.binary_search(&from), shown.binary_search(&to)) {
                let (lines, images) = links.entry((from, to, edge.kind)).or_default();
                lines.push((edge.file.clone(), edge.line));
                images.extend(edge.images.map(|(image, used)| (image, Some(used))));
            }
        }
        let named = choice.named.iter().filter_map(|named| shown.binary_search(named).ok());
        Self {
            nodes: shown.iter().map(node).collect(),
            links: sorted(links),
            direction: choice.direction,
            is_marked: false,
            named: named.collect(),
        }
    }

    /// The roots of a tree: the selected nodes, or all nodes without a parent.
    pub(crate) fn roots(&self) -> Vec<usize> {
        if !self.named.is_empty() {
            return self.named.clone();
        }
        let children: BTreeSet<usize> = self.links.iter().map(|link| self.ends(link).1).collect();
        (0..self.nodes.len()).filter(|index| !children.contains(index)).collect()
    }

    /// The ends of a link, in the direction of a tree.
    pub(crate) fn ends(&self, link: &Link) -> (usize, usize) {
        match self.direction {
            Direction::Dependencies => (link.from, link.to),
            Direction::Dependents => (link.to, link.from),
        }
    }

    pub(crate) fn components(&self) -> impl Iterator<Item = &str> {
        let is_component = |node: &&Node| matches!(node.content, Content::Component(_));
        self.nodes.iter().filter(is_component).map(|node| node.name.as_str())
    }

    /// Adds the external images.
    pub(crate) fn add_external(&mut self, workspace: &Workspace, choice: &Choice) {
        let mut uses = Vec::new();
        for (from, component) in choice.shown.iter().enumerate() {
            let images = workspace.components[*component].images.enumerate();
            for (image, used) in images
                .flat_map(|(id, image)| image.uses.iter().map(move |used| ((id, image), used)))
            {
                if used.local.is_none() {
                    uses.push((from, image, used));
                }
            }
        }
        let names: BTreeSet<&str> =
            uses.iter().map(|(_, _, used)| used.reference.as_str()).collect();
        let first = self.nodes.len();
        let indices: BTreeMap<&str, usize> = names.into_iter().zip(first..).collect();
        let mut links = Links::new();
        for (from, (id, image), used) in &uses {
            let key = (*from, indices[used.reference.as_str()], EdgeKind::Image(used.via));
            let (lines, images) = links.entry(key).or_default();
            lines.push((image.dockerfile.clone(), used.line));
            images.insert((*id, None));
        }
        let external = |name: &&str| Node::new((*name).to_owned(), Content::External);
        self.nodes.extend(indices.keys().map(external));
        self.links.extend(sorted(links));
        self.links.sort_by_key(|link| (link.from, link.to, link.kind));
    }

    pub(crate) fn mark(
        &mut self,
        workspace: &Workspace,
        changed: &BTreeSet<ComponentId>,
        reached: &BTreeSet<ComponentId>,
    ) {
        self.is_marked = true;
        for node in &mut self.nodes {
            let Some(component) = workspace.find(&node.name) else { continue };
            if changed.contains(&component) {
                node.mark = Some(Mark::Changed);
            } else if reached.contains(&component) {
                node.mark = Some(Mark::Reached);
            }
        }
    }

    pub(crate) fn add_states(&mut self, steps: Vec<PlannedStep>) {
        let mut steps: BTreeMap<String, PlannedStep> =
            steps.into_iter().map(|step| (step.component.clone(), step)).collect();
        for node in &mut self.nodes {
            node.expected = steps.remove(&node.name);
        }
    }

    /// Adds the previous build times, and marks the critical path. A component that was never
    /// built counts with the median, as it does for the order of builds.
    pub(crate) fn add_durations(&mut self, records: &Records) {
        let median = records.median_duration();
        for node in &mut self.nodes {
            node.duration = records.duration(&node.name);
        }
        let mut memo = vec![None; self.nodes.len()];
        for index in 0..self.nodes.len() {
            self.longest_path(index, median, &mut memo);
        }
        let paths = memo.iter().enumerate();
        let longest = paths.max_by_key(|(_, path)| path.map(|(time, _)| time));
        let mut next = longest.map(|(index, _)| index);
        while let Some(index) = next {
            self.nodes[index].is_critical = true;
            next = memo[index].and_then(|(_, next)| next);
        }
    }

    /// The duration of the longest path that starts with a node. `memo` also receives the next
    /// node on it.
    fn longest_path(
        &self,
        index: usize,
        median: Duration,
        memo: &mut Vec<Option<(Duration, Option<usize>)>>,
    ) -> Duration {
        if let Some((time, _)) = memo[index] {
            return time;
        }
        let own = match self.nodes[index].content {
            Content::Component(_) => self.nodes[index].duration.unwrap_or(median),
            Content::External => Duration::ZERO,
        };
        let mut below = (Duration::ZERO, None);
        for needed in self.dependencies(index) {
            let time = self.longest_path(needed, median, memo);
            if time > below.0 {
                below = (time, Some(needed));
            }
        }
        memo[index] = Some((own + below.0, below.1));
        own + below.0
    }

    /// The direct dependencies of a node.
    pub(crate) fn dependencies(&self, index: usize) -> BTreeSet<usize> {
        let start = self.links.partition_point(|link| link.from < index);
        self.links[start..]
            .iter()
            .take_while(|link| link.from == index)
            .map(|link| link.to)
            .collect()
    }

    /// Whether a link is on the critical path.
    pub(crate) fn is_critical(&self, link: &Link) -> bool {
        self.nodes[link.from].is_critical && self.nodes[link.to].is_critical
    }
}

impl Node {
    fn new(name: String, content: Content) -> Self {
        Self { name, content, expected: None, duration: None, is_critical: false, mark: None }
    }

    /// The images of a component; empty for an external image.
    pub(crate) fn images(&self) -> &IdVec<ImageId, ChartImage> {
        match &self.content {
            Content::Component(images) => images,
            Content::External => const { &IdVec::new() },
        }
    }

    pub(crate) fn is_external(&self) -> bool {
        matches!(self.content, Content::External)
    }
}

fn sorted(links: Links) -> Vec<Link> {
    let link = |((from, to, kind), (mut lines, images)): (_, (Vec<_>, _))| {
        lines.sort();
        lines.dedup();
        Link { from, to, kind, lines, images }
    };
    links.into_iter().map(link).collect()
}
