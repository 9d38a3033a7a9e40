//! What holds for each image, as text or JSON.

use serde_json::{Value, json};
use xtask_core::escape;
use xtask_core::workspace::config::origin::Origin;

use crate::commands::config::ImageConfig;
use crate::event::VERSION;
use crate::report::table;

/// What stands in the place of a value that may be a secret.
const HIDDEN: &str = "(hidden)";

/// A paragraph for each image.
pub(crate) fn lines(images: &[ImageConfig]) -> Vec<String> {
    let mut lines = Vec::new();
    for ImageConfig { image, component, settings } in images {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(format!("{} (component {})", escape::line(image), escape::line(component)));
        let rows = settings.iter().map(|setting| {
            let value = setting.value.as_deref().unwrap_or(HIDDEN);
            let key = format!("  {}", escape::line(&setting.key));
            [key, escape::line(value).into_owned(), setting.source.to_string()]
        });
        lines.extend(table::align(&rows.collect::<Vec<_>>()));
    }
    lines
}

/// The JSON document.
pub(crate) fn document(images: &[ImageConfig]) -> Value {
    let images: Vec<Value> = images.iter().map(image).collect();
    json!({ "version": VERSION, "images": images })
}

fn image(config: &ImageConfig) -> Value {
    let settings = config.settings.iter().map(|setting| {
        let (source, line) = match setting.source {
            Origin::Default => ("default", None),
            Origin::Option(_) => ("command_line", None),
            Origin::Environment(_) => ("environment", None),
            Origin::File(at) => ("file", Some(at.line)),
        };
        json!({ "key": setting.key, "value": setting.value, "source": source, "line": line })
    });
    json!({
        "image": config.image,
        "component": config.component,
        "settings": settings.collect::<Vec<_>>(),
    })
}
