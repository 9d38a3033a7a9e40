//! A tree in the way of `cargo tree`: what was shown once with all that is below it is
//! named again, and marked `(*)`.

use std::collections::BTreeSet;

use console::Style;

use super::{Staleness, duration, other_images};
use crate::commands::graph::{Chart, Mark, Node};
use crate::report::plan;

pub(crate) fn draw(chart: &Chart, has_colors: bool) -> String {
    let mut drawing = TreePrinter { chart, has_colors, text: String::new(), seen: BTreeSet::new() };
    for root in chart.roots() {
        drawing.add(root, "", None);
    }
    drawing.text
}

struct TreePrinter<'a> {
    chart: &'a Chart,
    has_colors: bool,
    text: String,
    seen: BTreeSet<usize>,
}

impl TreePrinter<'_> {
    fn add(&mut self, place: usize, before: &str, kinds: Option<&str>) {
        let node = &self.chart.nodes[place];
        let below = self.below(place);
        let is_shown = !self.seen.insert(place);
        let mark = if is_shown && !below.is_empty() { " (*)" } else { "" };
        let name = self.styled(&style(node), &node.name);
        let details = format!("{}{}", details(node), kinds.unwrap_or_default());
        let details = self.styled(&Style::new().dim(), &details);
        self.text.push_str(&format!("{name}{details}{mark}\n"));
        if is_shown {
            return;
        }
        for (index, (child, kinds)) in below.iter().enumerate() {
            let (branch, line) = if index + 1 == below.len() {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            };
            self.text.push_str(&format!("{before}{branch}"));
            self.add(*child, &format!("{before}{line}"), Some(kinds));
        }
    }

    /// What comes below a node, and by what.
    fn below(&self, place: usize) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = Vec::new();
        for link in &self.chart.links {
            let (from, to) = self.chart.ends(link);
            if from != place {
                continue;
            }
            match found.iter_mut().find(|(other, _)| *other == to) {
                Some((_, kinds)) => kinds.push_str(&format!(", {}", link.kind)),
                None => found.push((to, format!("  {}", link.kind))),
            }
        }
        found
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
        Some(Mark::Reached) => text.push_str("  reached"),
        None => {}
    }
    if let Some(step) = &node.expected {
        text.push_str(&format!("  {}", plan::sentence(step)));
    }
    text
}
