//! The graph as JSON, which `docs/schema/graph.schema.json` describes.

use serde_json::{Value, json};
use xtask_core::ids::ImageId;

use crate::commands::graph::{Chart, ChartImage, Link, Mark, Node};
use crate::event::VERSION;
use crate::report::graph::node_style::Staleness;
use crate::report::plan;

pub(crate) fn document(chart: &Chart) -> Value {
    let (external, components): (Vec<&Node>, Vec<&Node>) =
        chart.nodes.iter().partition(|node| node.is_external());
    let external: Vec<&str> = external.iter().map(|node| node.name.as_str()).collect();
    let components: Vec<Value> = components.into_iter().map(component).collect();
    let edges: Vec<Value> = chart.links.iter().map(|link| edge(chart, link)).collect();
    json!({
        "version": VERSION,
        "components": components,
        "external": external,
        "edges": edges,
    })
}

fn component(node: &Node) -> Value {
    let images = node.images();
    let names =
        |ids: &[ImageId]| -> Vec<&str> { ids.iter().map(|id| images[*id].name.as_str()).collect() };
    let image = |image: &ChartImage| {
        let mut found = json!({
            "image": image.name,
            "dockerfile": image.dockerfile,
            "dependencies": names(&image.needs),
        });
        let mut planned = node.expected.iter().flat_map(|step| &step.images);
        if let Some(planned) = planned.find(|planned| planned.image == image.name)
            && let (Value::Object(found), Ok(Value::Object(planned))) =
                (&mut found, serde_json::to_value(planned))
        {
            found.extend(planned);
        }
        found
    };
    let images: Vec<Value> = images.iter().map(image).collect();
    let mut found = json!({ "component": node.name, "images": images });
    if let Some(step) = &node.expected {
        found["state"] = Staleness::of_step(step).name().into();
        found["text"] = plan::sentence(step).into();
    }
    if let Some(duration) = node.duration {
        found["seconds"] = duration.as_secs_f64().into();
    }
    if node.is_critical {
        found["is_critical"] = true.into();
    }
    if let Some(mark) = node.mark {
        found["change"] = if mark == Mark::Changed { "changed" } else { "reached" }.into();
    }
    found
}

fn edge(chart: &Chart, link: &Link) -> Value {
    let (from, to) = (&chart.nodes[link.from], &chart.nodes[link.to]);
    let line = |(file, line): &(String, usize)| json!({ "file": file, "line": line });
    let image = |(one, other): &(ImageId, Option<ImageId>)| {
        let other = other.map_or(&to.name, |other| &to.images()[other].name);
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
