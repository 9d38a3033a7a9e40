//! The SVG in a self-contained interactive page, with pan, zoom, search and highlighting of a
//! component's dependencies and dependents, by mouse, touch and keyboard.
//!
//! The page has its own dark colors: the SVG's are those of a picture, which must be readable
//! on any background.

use serde_json::{Value, json};

use crate::commands::graph::{Chart, Node};
use crate::report::graph::node_style::{Staleness, duration, mark_name};
use crate::report::graph::svg;
use crate::report::plan;

const PAGE: &str = include_str!("page.html");

/// Replaced by the SVG and the data.
const PICTURE: &str = "<!--PICTURE-->";
const DATA: &str = "/*DATA*/null";

pub(crate) fn draw(chart: &Chart) -> String {
    let nodes: Vec<Value> = chart.nodes.iter().map(node).collect();
    let mut links: Vec<(usize, usize)> = chart.links.iter().map(|it| (it.from, it.to)).collect();
    links.dedup();
    let data = json!({ "nodes": nodes, "links": links, "legend": svg::legend(chart) }).to_string();
    // In a script, `</script>` and `<!--` in a name would be taken for markup.
    let data = data.replace('<', "\\u003c");
    // The data first: it cannot contain the other placeholder, but a path in the SVG can be `/*DATA*/null`.
    PAGE.replacen(DATA, &data, 1).replacen(PICTURE, &svg::draw(chart), 1)
}

fn node(node: &Node) -> Value {
    let images: Vec<Value> = node
        .images()
        .iter()
        .map(|image| json!({ "name": image.name, "dockerfile": image.dockerfile }))
        .collect();
    json!({
        "name": node.name,
        "images": images,
        "external": node.is_external(),
        "state": Staleness::of(node).map(Staleness::label),
        "reason": node.expected.as_ref().map(plan::sentence),
        "took": duration(node),
        "mark": node.mark.map(mark_name),
        "critical": node.is_critical,
    })
}
