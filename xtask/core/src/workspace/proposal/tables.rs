//! Writes proposed images as tables: those that differ only in one folder by a pattern.

use std::collections::BTreeMap;

use crate::workspace::proposal::proposed::{Proposed, as_name};

/// What a folder of a pattern can be captured as; each pattern needs a word of its own.
const WORDS: [&str; 5] = ["image", "app", "service", "part", "item"];

const HEADER: &str = "# Which images this repository has. docs/configuration.md of the tool has \
                      all keys;\n# 'config' prints what holds for each image.\n";

/// The file of a repository that needs none.
pub(super) fn default() -> String {
    format!(
        "{HEADER}\n# Images are found in src/COMPONENT/build/NAME.dockerfile. Tables can adjust \
         them:\n#\n# registry = \"registry.example/team\"\n#\n# [image.NAME]\n# args.VERSION = \
         \"1\"\n"
    )
}

/// Images whose Dockerfiles differ in the name of one folder, which is a part of their names.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    above: String,
    file: String,
    before: String,
    after: String,
    context: Option<String>,
}

pub(super) fn write(images: &[Proposed]) -> String {
    if images.is_empty() {
        return default();
    }
    let shared = shared_context(images);
    let mut shapes: BTreeMap<Shape, Vec<&Proposed>> = BTreeMap::new();
    for image in images {
        if let Some(shape) = shape(image) {
            shapes.entry(shape).or_default().push(image);
        }
    }
    shapes.retain(|_, members| members.len() > 1);
    let mut text = HEADER.to_owned();
    if let Some(context) = &shared {
        text.push_str(&format!("\ncontext = {context:?}\n"));
    }
    let (mut patterned, mut words) = (Vec::new(), WORDS.iter());
    for (shape, members) in &shapes {
        let is_plain = shape.before.is_empty() && shape.after.is_empty();
        let Some(word) = words.find(|word| **word != "image" || is_plain) else { break };
        let Shape { above, file, before, after, context } = shape;
        let slash = if above.is_empty() { "" } else { "/" };
        text.push_str(&format!("\n[image.\"{before}{{{word}}}{after}\"]\n"));
        text.push_str(&format!("dockerfile = \"{above}{slash}{{{word}}}/{file}\"\n"));
        push_context(&mut text, context.as_ref(), shared.as_ref());
        patterned.extend(members.iter().map(|image| image.name.clone()));
    }
    for image in images {
        let is_patterned = patterned.contains(&image.name);
        let has_args = !image.args.is_empty() || image.args_file.is_some();
        let has_own = has_args || image.target.is_some();
        let has_comments = image.comments.iter().any(|it| !it.starts_with("as in "));
        if is_patterned && !has_own && !has_comments {
            continue;
        }
        text.push('\n');
        let is_source = |comment: &&String| comment.starts_with("as in ");
        for comment in image.comments.iter().filter(is_source).filter(|_| !is_patterned) {
            text.push_str(&format!("# {comment}\n"));
        }
        text.push_str(&format!("[image.{}]\n", key(&image.name)));
        if !is_patterned {
            text.push_str(&format!("dockerfile = {:?}\n", image.dockerfile));
            push_context(&mut text, image.context.as_ref(), shared.as_ref());
        }
        if let Some(target) = &image.target {
            text.push_str(&format!("target = {target:?}\n"));
        }
        if let Some(file) = &image.args_file {
            text.push_str(&format!("args-file = {file:?}\n"));
        }
        for (name, value) in &image.args {
            text.push_str(&format!("args.{} = {value:?}\n", key(name)));
        }
        for comment in image.comments.iter().filter(|comment| !is_source(comment)) {
            text.push_str(&format!("# {comment}\n"));
        }
    }
    text
}

/// The context that most images have, if it is not their own folder.
fn shared_context(images: &[Proposed]) -> Option<String> {
    let first = images.first()?.context.clone()?;
    images.iter().all(|image| image.context.as_ref() == Some(&first)).then_some(first)
}

fn push_context(text: &mut String, context: Option<&String>, shared: Option<&String>) {
    if let Some(context) = context.filter(|context| Some(*context) != shared) {
        text.push_str(&format!("context = {context:?}\n"));
    }
}

/// A key of TOML: bare if it can be.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().all(is_bare) { name.to_owned() } else { format!("{name:?}") }
}

fn shape(image: &Proposed) -> Option<Shape> {
    let mut parts: Vec<&str> = image.dockerfile.split('/').collect();
    let file = parts.pop()?.to_owned();
    let folder = parts.pop()?;
    let (before, after) = image.name.rsplit_once(&as_name(folder))?;
    // What is captured becomes a name in the same way, but for characters at its ends.
    let is_kept = folder.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    is_kept.then(|| Shape {
        above: parts.join("/"),
        file,
        before: before.to_owned(),
        after: after.to_owned(),
        context: image.context.clone(),
    })
}
