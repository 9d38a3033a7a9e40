//! The picture in a page that needs nothing but itself: it can be moved and zoomed, a
//! component lights up what it needs and what needs it, and names can be searched.

use serde_json::{Value, json};

use super::{Staleness, duration, svg};
use crate::commands::graph::{Chart, Node};
use crate::report::plan;

const PAGE: &str = include_str!("page.html");

/// Where the picture and the data go.
const PICTURE: &str = "<!--PICTURE-->";
const DATA: &str = "/*DATA*/null";

pub(crate) fn draw(chart: &Chart) -> String {
    let nodes: Vec<Value> = chart.nodes.iter().map(node).collect();
    let mut links: Vec<(usize, usize)> = chart.links.iter().map(|it| (it.from, it.to)).collect();
    links.dedup();
    let data = json!({ "nodes": nodes, "links": links }).to_string();
    // In a script only its end and what keeps it from that are special: both begin so.
    let data = data.replace('<', "\\u003c");
    PAGE.replacen(PICTURE, &svg::draw(chart), 1).replacen(DATA, &data, 1)
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
        "state": Staleness::of(node).map(Staleness::name),
        "reason": node.expected.as_ref().map(plan::sentence),
        "took": duration(node),
    })
}
