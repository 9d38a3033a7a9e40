//! The chart for programs. The document's `version` changes whenever a program that
//! reads it would have to. It holds:
//!
//! - `components`: by name. `name`; `images`, each with `name`, `dockerfile` and
//!   `needs`, the names of the same component's images that it is made from; and, if
//!   that was asked for, `state` (`up-to-date`, `restored`, `stale` or `undecided`) with `reason`,
//!   `seconds` and `critical`, and `change` (`changed` or `reached`).
//! - `external`: the references of images that no component makes.
//! - `edges`: `from` needs `to`, both names of components or references; `kind` is
//!   `component.dep`, `FROM`, `COPY --from` or `RUN --mount from`; `lines` are the
//!   `file` and `line` that say so; `images` are the names of the image that is made
//!   and of the one that it is made from, where an instruction says so.

use serde_json::{Value, json};

use super::Staleness;
use crate::commands::graph::{Chart, Link, Mark, Node};
use crate::report::plan;

/// Changes with the shape of the document.
const VERSION: u32 = 1;

pub(crate) fn draw(chart: &Chart) -> String {
    let (external, components): (Vec<&Node>, Vec<&Node>) =
        chart.nodes.iter().partition(|node| node.is_external());
    let external: Vec<&str> = external.iter().map(|node| node.name.as_str()).collect();
    let components: Vec<Value> = components.into_iter().map(component).collect();
    let edges: Vec<Value> = chart.links.iter().map(|link| edge(chart, link)).collect();
    let document = json!({
        "version": VERSION,
        "components": components,
        "external": external,
        "edges": edges,
    });
    format!("{document:#}\n")
}

fn component(node: &Node) -> Value {
    let images = node.images();
    let names = |places: &[usize]| -> Vec<&str> {
        places.iter().map(|place| images[*place].name.as_str()).collect()
    };
    let image = |image: &crate::commands::graph::ChartImage| {
        let needs = names(&image.needs);
        json!({ "name": image.name, "dockerfile": image.dockerfile, "needs": needs })
    };
    let images: Vec<Value> = images.iter().map(image).collect();
    let mut found = json!({ "name": node.name, "images": images });
    if let Some(step) = &node.expected {
        found["state"] = Staleness::of_step(step).name().into();
        found["reason"] = plan::sentence(step).into();
    }
    if let Some(duration) = node.duration {
        found["seconds"] = duration.as_secs_f64().into();
    }
    if node.is_critical {
        found["critical"] = true.into();
    }
    if let Some(mark) = node.mark {
        found["change"] = if mark == Mark::Changed { "changed" } else { "reached" }.into();
    }
    found
}

fn edge(chart: &Chart, link: &Link) -> Value {
    let (from, to) = (&chart.nodes[link.from], &chart.nodes[link.to]);
    let line = |(file, line): &(String, usize)| json!({ "file": file, "line": line });
    let image = |(one, other): &(usize, usize)| {
        let other = to.images().get(*other).map_or(&to.name, |image| &image.name);
        json!([from.images()[*one].name, other])
    };
    json!({
        "from": from.name,
        "to": to.name,
        "kind": link.kind.to_string(),
        "lines": link.lines.iter().map(line).collect::<Vec<_>>(),
        "images": link.images.iter().map(image).collect::<Vec<_>>(),
    })
}
