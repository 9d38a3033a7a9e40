//! The JSON schema of `xtask.toml`, for editors: made from the keys, so that it is always what
//! is read.

use serde_json::{Map, Value, json};

use crate::workspace::config::keys::{KEYS, Key, Kind, Place};

/// The schema.
pub fn schema() -> Value {
    let top = properties(|place| matches!(place, Place::Top | Place::Both));
    let image = properties(|place| place != Place::Top);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "xtask.toml.schema.json",
        "title": "xtask.toml",
        "description": "Which images a repository has, where their Dockerfiles are, and how each \
                        is built.",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
        "$defs": {
            "scalar": { "type": ["string", "number", "boolean"] },
            "image": {
                "type": "object",
                "additionalProperties": false,
                "properties": image,
            },
        },
    })
}

fn properties(is_here: impl Fn(Place) -> bool) -> Map<String, Value> {
    let keys = KEYS.iter().filter(|key| is_here(key.place));
    keys.map(|key| (key.name.to_owned(), property(key))).collect()
}

fn property(key: &Key) -> Value {
    let text = || json!({ "type": "string" });
    let list = || json!({ "type": "array", "items": text() });
    let scalar = || json!({ "$ref": "#/$defs/scalar" });
    let table_of = |values: Value| json!({ "type": "object", "additionalProperties": values });
    let mut property = match key.kind {
        Kind::Text => text(),
        Kind::List => list(),
        Kind::TextOrList | Kind::Command => json!({ "anyOf": [text(), list()] }),
        Kind::Map => table_of(scalar()),
        Kind::Args => {
            let variable = json!({
                "type": "object",
                "additionalProperties": false,
                "properties": { "env": text() },
                "required": ["env"],
            });
            table_of(json!({ "anyOf": [scalar(), variable] }))
        }
        Kind::Secrets => {
            json!({ "type": "array", "items": { "anyOf": [text(), table_of(text())] } })
        }
        Kind::Matrix => {
            let axis = json!({ "type": "array", "items": scalar() });
            let rows = json!({ "type": "array", "items": table_of(scalar()) });
            json!({ "anyOf": [table_of(axis), rows] })
        }
        Kind::Groups => table_of(list()),
        Kind::Images => table_of(json!({ "$ref": "#/$defs/image" })),
    };
    property["description"] = key.doc.into();
    property
}
