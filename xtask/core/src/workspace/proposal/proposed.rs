//! An image that is proposed, and its name.

use std::collections::BTreeMap;

use crate::image_reference;
use crate::paths::{BUILD, SRC, component_dir};
use crate::workspace::config::FLAVORS;

/// An image to be defined.
#[derive(Clone, Debug, Default)]
pub(super) struct Proposed {
    pub(super) name: String,
    pub(super) dockerfile: String,
    /// None for the folder of the Dockerfile, or of its component in `src/`.
    pub(super) context: Option<String>,
    pub(super) args: BTreeMap<String, String>,
    /// Args of which another tool's file does not say the value, with what stands there.
    pub(super) unknown_args: BTreeMap<String, String>,
    /// A file with args, relative to the root.
    pub(super) args_file: Option<String>,
    pub(super) target: Option<String>,
    /// What stands in the place of images that the Dockerfile names.
    pub(super) contexts: BTreeMap<String, String>,
    /// What is to be filled in by hand.
    pub(super) comments: Vec<String>,
    /// The file of another tool that describes it.
    pub(super) file: Option<String>,
    /// What it is called there.
    pub(super) key: String,
}

/// The component and the image of a Dockerfile that is found without a file.
pub(super) fn in_src(path: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = path.split('/').collect();
    let [SRC, component, BUILD, file] = *parts else { return None };
    let stem = file.strip_suffix(".dockerfile").filter(|_| !component.starts_with('.'))?;
    let image = match stem.rsplit_once('.') {
        Some((image, flavor)) if !image.is_empty() && FLAVORS.contains(&flavor) => image,
        _ => stem,
    };
    Some((component, image))
}

/// The context that a Dockerfile has if none is named.
pub(super) fn own_context(dockerfile: &str) -> String {
    match (in_src(dockerfile), dockerfile.rsplit_once('/')) {
        (Some((component, _)), _) => component_dir(component),
        (None, Some((folder, _))) => folder.to_owned(),
        (None, None) => ".".to_owned(),
    }
}

/// A text as the name of an image, which may have a tag.
pub(super) fn as_name(text: &str) -> String {
    if let Some((name, tag)) = text.split_once(':') {
        let tag = if image_reference::is_tag(tag) { tag.to_owned() } else { as_name(tag) };
        return format!("{}:{tag}", as_name(name));
    }
    let letters = text.to_lowercase();
    let is_kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let name: String = letters.chars().map(|c| if is_kept(c) { c } else { '-' }).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    match image_reference::check_name(&name) {
        Ok(()) => name,
        Err(_) if name.is_empty() => "image".to_owned(),
        Err(_) => name.replace(['.', '_'], "-"),
    }
}
