//! What an image holds, as a digest that is the same on every engine: of its layers, and of its
//! configuration less the labels of this tool. Ids are digests of files that engines write in
//! their own ways, and some stores have ids of their own.

use std::collections::BTreeMap;

use bollard::models::ImageInspect;
use serde_json::{Value, json};
use xtask_core::staleness::engine_images::is_own_label;

/// The digest of what an inspected image holds, in hexadecimal digits.
pub(super) fn digest(image: &ImageInspect) -> String {
    let config = image.config.clone().unwrap_or_default();
    let labels = config.labels.unwrap_or_default().into_iter();
    let labels: BTreeMap<String, String> = labels.filter(|(name, _)| !is_own_label(name)).collect();
    let layers = image.root_fs.as_ref().and_then(|root| root.layers.clone());
    let contents = json!([
        layers,
        image.architecture,
        image.os,
        config.env,
        config.cmd,
        config.entrypoint,
        config.working_dir,
        config.user,
        config.exposed_ports,
        config.volumes,
        config.stop_signal,
        config.shell,
        config.on_build,
        config.healthcheck,
        labels,
    ]);
    blake3::hash(without_nothing(contents).to_string().as_bytes()).to_hex().to_string()
}

/// The same for what is empty and what is not there, which engines do not tell apart alike; names
/// in their order.
fn without_nothing(value: Value) -> Value {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match value {
        Value::Object(map) => {
            let mut names: Vec<(String, Value)> = map.into_iter().collect();
            names.sort_by(|(one, _), (other, _)| one.cmp(other));
            names.into_iter().map(|(name, value)| json!([name, without_nothing(value)])).collect()
        }
        Value::Array(list) => list.into_iter().map(without_nothing).collect(),
        value if is_nothing(&value) => Value::Array(Vec::new()),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(config: &Value) -> ImageInspect {
        let inspect = json!({
            "Id": "sha256:1",
            "Architecture": "amd64",
            "Os": "linux",
            "Config": config,
            "RootFS": { "Type": "layers", "Layers": ["sha256:a"] },
        });
        serde_json::from_value(inspect).unwrap()
    }

    #[test]
    fn what_is_empty_and_what_is_ours_is_no_matter() {
        let old = image(&json!({
            "Hostname": "", "User": "", "ExposedPorts": null, "Env": ["A=b"], "Cmd": null,
            "Volumes": null, "WorkingDir": "/x", "Entrypoint": null, "OnBuild": null,
            "Labels": { "org.openpai.build.bases": "x=1", "z": "1", "a": "2" },
        }));
        let new = image(&json!({
            "Env": ["A=b"], "WorkingDir": "/x", "Labels": { "a": "2", "z": "1" },
        }));
        assert_eq!(digest(&old), digest(&new));
        for other in [json!({ "Env": ["A=c"], "WorkingDir": "/x" }), json!({ "WorkingDir": "/x" })]
        {
            assert_ne!(digest(&image(&other)), digest(&new));
        }
    }
}
