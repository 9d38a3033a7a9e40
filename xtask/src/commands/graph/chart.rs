//! What a drawing shows.
//!
//! Everything is sorted, components by name and links by their ends, so that the same
//! workspace always gives the same drawing and another one differs where it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xtask_core::image_reference::RegistryNames;
use xtask_core::plan::graph::{Direction, EdgeKind, Graph};
use xtask_core::workspace::components::Workspace;

use crate::commands::graph::choice::Choice;
use crate::outcome::PlannedStep;
use crate::system::records::Records;

/// What to draw: components, and why one needs another.
#[derive(Debug)]
pub struct Chart {
    /// The components by name, then the images of others by reference.
    pub nodes: Vec<Node>,
    /// By the places of their ends and their kind.
    pub links: Vec<Link>,
    /// Where a tree goes.
    pub direction: Direction,
    /// The nodes that were named; none for everything.
    named: Vec<usize>,
}

/// A component, or an image of others.
#[derive(Debug)]
pub struct Node {
    /// The component's name, or the image's reference.
    pub name: String,
    /// What it is.
    pub content: Content,
    /// What a build would do with it, if the engine was asked.
    pub expected: Option<PlannedStep>,
    /// How long it took the last time, if that was asked for and is known.
    pub duration: Option<Duration>,
    /// Whether it is on the way that takes longest.
    pub is_critical: bool,
    /// Whether a change reaches it, if that was asked for.
    pub mark: Option<Mark>,
}

/// What a node is.
#[derive(Debug)]
pub enum Content {
    /// A component with its images, in the order of their names.
    Component(Vec<ChartImage>),
    /// An image that no component makes.
    External,
}

/// An image of a component.
#[derive(Debug)]
pub struct ChartImage {
    /// Its name.
    pub name: String,
    /// Its Dockerfile, relative to the root.
    pub dockerfile: String,
    /// The places of the component's other images that it is made from.
    pub needs: Vec<usize>,
}

/// What a change did to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something in it changed.
    Changed,
    /// It needs something that changed.
    Reached,
}

/// That one node needs another, for one kind of reason.
#[derive(Debug)]
pub struct Link {
    /// The place of the node that needs.
    pub from: usize,
    /// The place of the node that is needed.
    pub to: usize,
    /// What says so.
    pub kind: EdgeKind,
    /// The files and lines that say so.
    pub lines: Vec<(String, usize)>,
    /// Which image is made from which, by their places; the second is 0 where the
    /// image is of others.
    pub images: BTreeSet<(usize, usize)>,
}

type Links = BTreeMap<(usize, usize, EdgeKind), (Vec<(String, usize)>, BTreeSet<(usize, usize)>)>;

impl Chart {
    pub(crate) fn new(workspace: &Workspace, graph: &Graph, choice: &Choice) -> Self {
        let shown: Vec<usize> = choice.shown.iter().copied().collect();
        let node = |place: &usize| {
            let component = &workspace.components[*place];
            let mut images: Vec<ChartImage> = component
                .images
                .iter()
                .map(|image| ChartImage {
                    name: image.name.clone(),
                    dockerfile: image.dockerfile.clone(),
                    needs: Vec::new(),
                })
                .collect();
            for order in graph.images(*place) {
                images[order.index].needs.clone_from(&order.needs);
            }
            Node::new(component.name.clone(), Content::Component(images))
        };
        let mut links = Links::new();
        for (from, to, edge) in graph.edges() {
            if let (Ok(from), Ok(to)) = (shown.binary_search(&from), shown.binary_search(&to)) {
                let (lines, images) = links.entry((from, to, edge.kind)).or_default();
                lines.push((edge.file.clone(), edge.line));
                images.extend(edge.images);
            }
        }
        let named = choice.named.iter().filter_map(|named| shown.binary_search(named).ok());
        Self {
            nodes: shown.iter().map(node).collect(),
            links: list(links),
            direction: choice.direction,
            named: named.collect(),
        }
    }

    /// The nodes that a tree begins with: what was named, or all to which nothing leads.
    pub fn roots(&self) -> Vec<usize> {
        if !self.named.is_empty() {
            return self.named.clone();
        }
        let ends: BTreeSet<usize> = self.links.iter().map(|link| self.ends(link).1).collect();
        (0..self.nodes.len()).filter(|place| !ends.contains(place)).collect()
    }

    /// The ends of a link, in the direction of a tree.
    pub fn ends(&self, link: &Link) -> (usize, usize) {
        match self.direction {
            Direction::Dependencies => (link.from, link.to),
            Direction::Dependents => (link.to, link.from),
        }
    }

    /// The components' names.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        let is_component = |node: &&Node| matches!(node.content, Content::Component(_));
        self.nodes.iter().filter(is_component).map(|node| node.name.as_str())
    }

    /// Adds the images of others.
    pub(crate) fn add_external(
        &mut self,
        workspace: &Workspace,
        choice: &Choice,
        registry: Option<&RegistryNames>,
    ) {
        let ours: BTreeSet<&str> =
            workspace.images().map(|(_, image)| image.name.as_str()).collect();
        let mut uses = Vec::new();
        for (from, place) in choice.shown.iter().enumerate() {
            let images = workspace.components[*place].images.iter().enumerate();
            for (image, used) in images.flat_map(|(place, image)| {
                image.uses.iter().map(move |used| ((place, image), used))
            }) {
                let name = used.local_name(registry);
                if !name.is_some_and(|name| ours.contains(name)) {
                    uses.push((from, image, used));
                }
            }
        }
        let names: BTreeSet<&str> =
            uses.iter().map(|(_, _, used)| used.reference.as_str()).collect();
        let first = self.nodes.len();
        let places: BTreeMap<&str, usize> = names.into_iter().zip(first..).collect();
        let mut links = Links::new();
        for (from, (place, image), used) in &uses {
            let key = (*from, places[used.reference.as_str()], EdgeKind::Image(used.via));
            let (lines, images) = links.entry(key).or_default();
            lines.push((image.dockerfile.clone(), used.line));
            images.insert((*place, 0));
        }
        let external = |name: &&str| Node::new((*name).to_owned(), Content::External);
        self.nodes.extend(places.keys().map(external));
        self.links.extend(list(links));
        self.links.sort_by_key(|link| (link.from, link.to, link.kind));
    }

    pub(crate) fn mark(
        &mut self,
        workspace: &Workspace,
        changed: &BTreeSet<usize>,
        reached: &BTreeSet<usize>,
    ) {
        for node in &mut self.nodes {
            let Some(place) = workspace.find(&node.name) else { continue };
            if changed.contains(&place) {
                node.mark = Some(Mark::Changed);
            } else if reached.contains(&place) {
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

    /// Tells how long components took, and which way took longest; what was never
    /// built counts as long as others do, as it does for the order of builds.
    pub(crate) fn add_durations(&mut self, records: &Records) {
        let median = records.median_duration();
        for node in &mut self.nodes {
            node.duration = records.duration(&node.name);
        }
        let mut memo = vec![None; self.nodes.len()];
        for place in 0..self.nodes.len() {
            self.longest(place, median, &mut memo);
        }
        let all = memo.iter().enumerate();
        let mut next = all.max_by_key(|(_, way)| way.map(|(time, _)| time)).map(|(place, _)| place);
        while let Some(place) = next {
            self.nodes[place].is_critical = true;
            next = memo[place].and_then(|(_, next)| next);
        }
    }

    /// How long a node and the longest way below it take, and where that goes.
    fn longest(
        &self,
        place: usize,
        median: Duration,
        memo: &mut Vec<Option<(Duration, Option<usize>)>>,
    ) -> Duration {
        if let Some((time, _)) = memo[place] {
            return time;
        }
        let own = match self.nodes[place].content {
            Content::Component(_) => self.nodes[place].duration.unwrap_or(median),
            Content::External => Duration::ZERO,
        };
        let mut below = (Duration::ZERO, None);
        for needed in self.needed(place) {
            let time = self.longest(needed, median, memo);
            if time > below.0 {
                below = (time, Some(needed));
            }
        }
        memo[place] = Some((own + below.0, below.1));
        own + below.0
    }

    /// The nodes that one needs.
    pub fn needed(&self, place: usize) -> BTreeSet<usize> {
        let start = self.links.partition_point(|link| link.from < place);
        self.links[start..].iter().take_while(|link| link.from == place).map(|it| it.to).collect()
    }

    /// Whether the critical path goes along a link.
    pub fn is_critical(&self, link: &Link) -> bool {
        self.nodes[link.from].is_critical && self.nodes[link.to].is_critical
    }
}

impl Node {
    fn new(name: String, content: Content) -> Self {
        Self { name, content, expected: None, duration: None, is_critical: false, mark: None }
    }

    /// A component's images.
    pub fn images(&self) -> &[ChartImage] {
        match &self.content {
            Content::Component(images) => images,
            Content::External => &[],
        }
    }

    /// Whether no component makes it.
    pub fn is_external(&self) -> bool {
        matches!(self.content, Content::External)
    }
}

fn list(links: Links) -> Vec<Link> {
    let link = |((from, to, kind), (mut lines, images)): (_, (Vec<_>, _))| {
        lines.sort();
        lines.dedup();
        Link { from, to, kind, lines, images }
    };
    links.into_iter().map(link).collect()
}
