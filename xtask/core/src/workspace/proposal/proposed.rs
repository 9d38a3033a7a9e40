//! An image that is proposed, and its name.

use std::collections::BTreeMap;

use crate::image_reference;

/// An image to be defined.
#[derive(Clone, Debug)]
pub(super) struct Proposed {
    pub(super) name: String,
    pub(super) dockerfile: String,
    /// None for the folder of the Dockerfile.
    pub(super) context: Option<String>,
    pub(super) args: BTreeMap<String, String>,
    /// A file with args, relative to the root.
    pub(super) args_file: Option<String>,
    pub(super) target: Option<String>,
    /// What is to be filled in by hand, or where this was found.
    pub(super) comments: Vec<String>,
}

/// A text as the name of an image, which may have a tag.
pub(super) fn as_name(text: &str) -> String {
    if let Some((name, tag)) = text.split_once(':') {
        return format!("{}:{}", as_name(name), as_name(tag));
    }
    let letters = text.to_lowercase();
    let is_kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let name: String = letters.chars().map(|c| if is_kept(c) { c } else { '-' }).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    if image_reference::check_name(&name).is_ok() { name } else { name.replace(['.', '_'], "-") }
}
