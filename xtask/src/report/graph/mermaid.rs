//! The chart as a Mermaid flowchart
//! (<https://mermaid.js.org/syntax/flowchart.html>).

use std::collections::BTreeSet;

use xtask_core::plan::graph::EdgeKind;

use crate::commands::graph::{Chart, Content, Mark, Node};
use crate::report::graph::node_style::{Staleness, duration, is_copied, other_images};

pub(crate) fn draw(chart: &Chart) -> String {
    let ids = ids(&chart.nodes);
    let mut text = "flowchart LR\n".to_owned();
    for (node, id) in chart.nodes.iter().zip(&ids) {
        let (open, close) = match &node.content {
            Content::External => ("([", "])"),
            Content::Component(images) if images.is_empty() => ("[/", "/]"),
            Content::Component(_) => ("[", "]"),
        };
        let mut label = vec![node.name.clone()];
        label.extend(other_images(node).map(str::to_owned));
        label.extend(duration(node));
        let label: Vec<String> = label.iter().map(|line| escaped(line)).collect();
        text.push_str(&format!("  {id}{open}\"{}\"{close}\n", label.join("<br/>")));
    }
    for (number, link) in chart.links.iter().enumerate() {
        let arrow = match link.kind {
            EdgeKind::Declared => "-.->".to_owned(),
            kind if is_copied(kind) => format!("-->|\"{kind}\"|"),
            EdgeKind::Image(_) => "-->".to_owned(),
        };
        text.push_str(&format!("  {} {arrow} {}\n", ids[link.from], ids[link.to]));
        if chart.is_critical(link) {
            text.push_str(&format!("  linkStyle {number} stroke:#d64550,stroke-width:2px\n"));
        }
    }
    for (node, id) in chart.nodes.iter().zip(&ids) {
        let styles = styles(node);
        if !styles.is_empty() {
            text.push_str(&format!("  style {id} {}\n", styles.join(",")));
        }
    }
    text
}

/// Unique ids that are valid in Mermaid, as close to the real names as possible.
fn ids(nodes: &[Node]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut id = |node: &Node| {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        // The prefix avoids Mermaid's keywords.
        let name: String = node.name.chars().map(plain).collect();
        let kind = if node.is_external() { "external" } else { "c" };
        let mut id = format!("{kind}_{name}");
        while !taken.insert(id.clone()) {
            id.push('_');
        }
        id
    };
    nodes.iter().map(&mut id).collect()
}

/// `#` starts an entity code in Mermaid, and some HTML is interpreted.
fn escaped(text: &str) -> String {
    let text = text.replace('#', "#35;").replace('"', "#quot;");
    text.replace('<', "#lt;").replace('>', "#gt;")
}

fn styles(node: &Node) -> Vec<String> {
    let fill = Staleness::of(node).map(|state| format!("fill:{},color:#111", state.fill()));
    let stroke = match node.mark {
        _ if node.is_critical => Some("stroke:#d64550,stroke-width:2px".to_owned()),
        Some(Mark::Changed) => Some("stroke:#2f6fde,stroke-width:3px".to_owned()),
        Some(Mark::Reached) => Some("stroke:#2f6fde".to_owned()),
        None => None,
    };
    fill.into_iter().chain(stroke).collect()
}
