//! Components and images as a table, or one JSON document, which
//! `docs/schema/list.schema.json` describes.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::commands::list::{ListedComponent, ListedImage};
use crate::engine::ImageDetails;
use crate::event::VERSION;
use crate::outcome::ImageState;
use crate::report::{sanitize, table, text};

/// One line per image, and per component without images; those of the engine are as old as
/// they are at `now`.
pub(crate) fn lines(components: &[ListedComponent], now: SystemTime) -> Vec<String> {
    let mut rows = vec![["COMPONENT", "IMAGE", "STATE", "SIZE", "CREATED"].map(str::to_owned)];
    for ListedComponent { name, images } in components {
        let mut component = name.clone();
        sanitize::name(&mut component);
        for ListedImage { planned, found } in images {
            let mut image = planned.image.clone();
            sanitize::name(&mut image);
            let state = state(&planned.state, found.as_ref()).to_owned();
            let size = found.as_ref().map(|found| text::bytes(found.bytes)).unwrap_or_default();
            let age = found.as_ref().and_then(|found| found.age(now)).map(text::age);
            rows.push([component.clone(), image, state, size, age.unwrap_or_default()]);
        }
        if images.is_empty() {
            let [image, state, size, age] = ["-", "", "", ""].map(str::to_owned);
            rows.push([component, image, state, size, age]);
        }
    }
    table::align(&rows)
}

fn state(state: &ImageState, found: Option<&ImageDetails>) -> &'static str {
    match (state, found) {
        (ImageState::Stale { .. } | ImageState::Undecided { .. }, None) => "missing",
        (ImageState::Stale { .. }, Some(_)) => "stale",
        (ImageState::Undecided { .. }, Some(_)) => "undecided",
        (ImageState::Restored, _) => "restored",
        (ImageState::UpToDate, _) => "up to date",
    }
}

/// The JSON document.
pub(crate) fn document(components: &[ListedComponent]) -> Value {
    let components: Vec<Value> = components.iter().map(component).collect();
    json!({ "version": VERSION, "components": components })
}

fn component(component: &ListedComponent) -> Value {
    let images: Vec<Value> = component.images.iter().map(image).collect();
    json!({ "component": component.name, "images": images })
}

fn image(image: &ListedImage) -> Value {
    let mut document = json!(image.planned);
    let found = image.found.as_ref();
    let created = found.and_then(|found| found.created);
    let created = created.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    document["id"] = json!(found.map(|found| &found.id));
    document["bytes"] = json!(found.map(|found| found.bytes));
    document["created"] = json!(created.map(|time| time.as_secs_f64()));
    document
}
