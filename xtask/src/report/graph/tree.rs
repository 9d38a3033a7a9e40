//! A tree like that of `cargo tree`: a component whose dependencies have been shown before is
//! marked `(*)`, and they are not repeated. States are in columns beside the tree, and a last
//! line counts the images to be built.

use std::collections::BTreeSet;

use console::Style;
use xtask_core::plan::graph::EdgeKind;

use crate::commands::graph::{Chart, Mark, Node};
use crate::outcome::PlannedStep;
use crate::report::graph::node_style::{Staleness, duration, other_images};
use crate::report::{plan, table};

pub(crate) fn draw(chart: &Chart, has_colors: bool) -> String {
    let children = &children(chart);
    let mut drawing =
        TreePrinter { chart, has_colors, children, rows: Vec::new(), seen: BTreeSet::new() };
    for root in chart.roots() {
        drawing.add(root, "", "", &[]);
    }
    let mut lines = table::align(&drawing.rows);
    let steps: Vec<&PlannedStep> =
        chart.nodes.iter().filter_map(|node| node.expected.as_ref()).collect();
    if !steps.is_empty() {
        lines.push(plan::count(steps));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// A node as one of another's children, and the kinds of the links between the two.
struct Child {
    index: usize,
    kinds: Vec<EdgeKind>,
}

/// The children of all nodes.
fn children(chart: &Chart) -> Vec<Vec<Child>> {
    let mut found: Vec<Vec<Child>> = chart.nodes.iter().map(|_| Vec::new()).collect();
    for link in &chart.links {
        let (from, to) = chart.ends(link);
        match found[from].last_mut() {
            // Links are sorted by their ends.
            Some(last) if last.index == to => last.kinds.push(link.kind),
            _ => found[from].push(Child { index: to, kinds: vec![link.kind] }),
        }
    }
    found
}

struct TreePrinter<'a> {
    chart: &'a Chart,
    has_colors: bool,
    /// By node, in the order of the chart.
    children: &'a [Vec<Child>],
    /// The branch of the tree, the state, and why.
    rows: Vec<[String; 3]>,
    seen: BTreeSet<usize>,
}

impl TreePrinter<'_> {
    fn add(&mut self, index: usize, branch: &str, indent: &str, kinds: &[EdgeKind]) {
        let node = &self.chart.nodes[index];
        let children = &self.children[index];
        let is_shown = !self.seen.insert(index);
        let mark = if is_shown && !children.is_empty() { " (*)" } else { "" };
        let (style, dim) = (style(node), Style::new().dim());
        let name = self.styled(&style, &node.name);
        let kinds = kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let gap = if kinds.is_empty() { "" } else { "  " };
        let details = format!("{}{gap}{kinds}", details(node));
        let details = self.styled(&dim, &details);
        let (state, why) = node.expected.as_ref().map(plan::state).unwrap_or_default();
        let (state, why) = (self.styled(&style, state), self.styled(&dim, &why));
        self.rows.push([format!("{branch}{name}{details}{mark}"), state, why]);
        if is_shown {
            return;
        }
        for (position, child) in children.iter().enumerate() {
            let (fork, line) = if position + 1 == children.len() {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            };
            let branch = format!("{indent}{fork}");
            self.add(child.index, &branch, &format!("{indent}{line}"), &child.kinds);
        }
    }

    fn styled(&self, style: &Style, text: &str) -> String {
        style.clone().force_styling(self.has_colors).apply_to(text).to_string()
    }
}

fn style(node: &Node) -> Style {
    let style = match Staleness::of(node) {
        _ if node.is_external() => Style::new().dim(),
        Some(Staleness::Stale) => Style::new().red(),
        Some(Staleness::Undecided) => Style::new().yellow(),
        Some(Staleness::UpToDate | Staleness::Restored) => Style::new().green(),
        None => Style::new(),
    };
    if node.is_critical { style.bold() } else { style }
}

fn details(node: &Node) -> String {
    let mut text = String::new();
    if other_images(node).next().is_some() {
        let images: Vec<&str> = node.images().iter().map(|image| image.name.as_str()).collect();
        text.push_str(&format!(" [{}]", images.join(", ")));
    }
    if let Some(duration) = duration(node) {
        let critical = if node.is_critical { " critical" } else { "" };
        text.push_str(&format!("  {duration}{critical}"));
    }
    match node.mark {
        Some(Mark::Changed) => text.push_str("  changed"),
        Some(Mark::Reached) => text.push_str("  affected"),
        None => {}
    }
    text
}
