//! The chart in Graphviz DOT (<https://graphviz.org/doc/info/lang.html>): components as
//! nodes, or as clusters of their images.

use std::collections::BTreeMap;

use xtask_core::ids::ImageId;
use xtask_core::plan::graph::EdgeKind;

use crate::commands::graph::{Chart, Content, Link, Mark, Node};
use crate::report::graph::node_style::{Staleness, duration, is_copied, other_images};

const CRITICAL: &str = "#d64550";
const CHANGED: &str = "#2f6fde";

/// One node per component, labeled with its images.
pub(crate) fn draw(chart: &Chart) -> String {
    let mut text = head(false);
    for node in &chart.nodes {
        let mut label = vec![node.name.clone()];
        label.extend(other_images(node).map(str::to_owned));
        label.extend(duration(node));
        let mut attributes = attributes(node);
        attributes.insert("label", label.join("\n"));
        text.push_str(&format!("  {}{}\n", quoted(&node.name), list(&attributes)));
    }
    for link in &chart.links {
        let (from, to) = (&chart.nodes[link.from].name, &chart.nodes[link.to].name);
        text.push_str(&line(from, to, &line_attributes(chart, link)));
    }
    text + "}\n"
}

/// One node per image, one cluster per component.
pub(crate) fn draw_images(chart: &Chart) -> String {
    let mut text = head(true);
    for node in &chart.nodes {
        text.push_str(&cluster(node));
    }
    for node in &chart.nodes {
        for (id, image) in node.images().enumerate() {
            for needed in &image.needs {
                let (from, to) = (node_id(node, Some(id)), node_id(node, Some(*needed)));
                text.push_str(&line(&from, &to, &BTreeMap::new()));
            }
        }
    }
    for link in &chart.links {
        let (from, to) = (&chart.nodes[link.from], &chart.nodes[link.to]);
        let mut attributes = line_attributes(chart, link);
        if link.kind == EdgeKind::Declared {
            for (end, node) in [("ltail", from), ("lhead", to)] {
                if !node.images().is_empty() {
                    attributes.insert(end, cluster_id(node));
                }
            }
            let first = |node: &Node| node_id(node, node.images().ids().next());
            text.push_str(&line(&first(from), &first(to), &attributes));
        }
        for (from_image, to_image) in &link.images {
            let (from, to) = (node_id(from, Some(*from_image)), node_id(to, *to_image));
            text.push_str(&line(&from, &to, &attributes));
        }
    }
    text + "}\n"
}

fn head(has_clusters: bool) -> String {
    let clusters = if has_clusters { "  compound=true\n" } else { "" };
    format!(
        "digraph components {{\n  rankdir=LR\n{clusters}  node [shape=box style=\"rounded,filled\" \
         fillcolor=white fontname=\"Helvetica,Arial,sans-serif\"]\n  edge [color=\"#555555\"]\n"
    )
}

fn cluster(node: &Node) -> String {
    let name = quoted(&node.name);
    let mut attributes = attributes(node);
    if node.images().is_empty() {
        return format!("  {name}{}\n", list(&attributes));
    }
    let mut text = format!("  subgraph {} {{\n    label={name}\n", quoted(&cluster_id(node)));
    text.push_str("    style=rounded\n    color=\"#999999\"\n");
    for (id, image) in node.images().enumerate() {
        attributes.insert("label", image.name.clone());
        let id = quoted(&node_id(node, Some(id)));
        text.push_str(&format!("    {id}{}\n", list(&attributes)));
    }
    text + "  }\n"
}

fn cluster_id(node: &Node) -> String {
    format!("cluster {}", node.name)
}

/// The id of an image's node, or of a node without images. It includes the component's name,
/// because an image may have the name of another component.
fn node_id(node: &Node, image: Option<ImageId>) -> String {
    match image {
        Some(image) => format!("{}/{}", node.name, node.images()[image].name),
        None => node.name.clone(),
    }
}

type Attributes = BTreeMap<&'static str, String>;

fn attributes(node: &Node) -> Attributes {
    let mut found = Attributes::new();
    match &node.content {
        Content::External => {
            found.insert("style", "dashed".into());
            found.insert("fontcolor", "#555555".into());
        }
        Content::Component(images) if images.is_empty() => {
            found.insert("shape", "folder".into());
            found.insert("style", "filled".into());
        }
        Content::Component(_) => {}
    }
    if let Some(state) = Staleness::of(node) {
        found.insert("fillcolor", state.fill().into());
    }
    let color = match node.mark {
        _ if node.is_critical => Some((CRITICAL, "2")),
        Some(Mark::Changed) => Some((CHANGED, "3")),
        Some(Mark::Reached) => Some((CHANGED, "1")),
        None => None,
    };
    if let Some((color, width)) = color {
        found.insert("color", color.into());
        found.insert("penwidth", width.into());
    }
    found
}

fn line_attributes(chart: &Chart, link: &Link) -> Attributes {
    let mut found = Attributes::new();
    if link.kind == EdgeKind::Declared {
        found.insert("style", "dotted".into());
    } else if is_copied(link.kind) {
        found.insert("style", "dashed".into());
    }
    if chart.is_critical(link) {
        found.insert("color", CRITICAL.into());
        found.insert("penwidth", "2".into());
    }
    found
}

fn line(from: &str, to: &str, attributes: &Attributes) -> String {
    format!("  {} -> {}{}\n", quoted(from), quoted(to), list(attributes))
}

fn list(attributes: &Attributes) -> String {
    if attributes.is_empty() {
        return String::new();
    }
    let all: Vec<String> =
        attributes.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    format!(" [{}]", all.join(" "))
}

/// In a quoted string, only quotes, backslashes and line breaks need escapes.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}
