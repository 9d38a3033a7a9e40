//! Writes proposed images as tables: those that differ only in one folder by a pattern, if it finds
//! exactly them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::escape;
use crate::workspace::config::overrides::literally;
use crate::workspace::config::{Config, Facts, LAYOUT, as_name};
use crate::workspace::proposal::known::to_fill_in;
use crate::workspace::proposal::proposed::{Proposed, in_src, own_context};

/// What a folder of a pattern can be captured as; each pattern needs a word of its own.
const WORDS: [&str; 5] = ["image", "app", "service", "part", "item"];

/// What no path of a Dockerfile can have: it has a meaning in patterns.
const SPECIAL: [char; 5] = ['{', '}', '[', '*', '?'];

const HEADER: &str = "# Which images this repository has. docs/configuration.md of the tool has \
                      all keys;\n# 'config' prints what holds for each image.\n";

/// What is said in a repository that needs no tables.
const DEFAULT: &str = "\n# Images are found in src/COMPONENT/build/NAME.dockerfile. Tables can \
                       adjust them:\n#\n# registry = \"registry.example/team\"\n#\n# \
                       [image.NAME]\n# args.VERSION = \"1\"\n";

/// Images whose Dockerfiles differ in the name of one folder, which is a part of their names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    above: String,
    file: String,
    before: String,
    after: String,
    context: Option<String>,
}

/// By which patterns images are found; the others are named in full.
#[derive(Clone, Default)]
struct Patterns<'a> {
    /// Those in `src/COMPONENT/build/`.
    layout: Vec<&'a Proposed>,
    shapes: Vec<(Shape, Vec<&'a Proposed>)>,
}

/// The text of the file.
pub(super) fn write(root: &Path, images: &[Proposed], notes: &[String]) -> String {
    let layout = images.iter().filter(|image| is_in_layout(image) && is_alone(image, images));
    let layout: Vec<&Proposed> = layout.collect();
    let is_as_written =
        |image: &Proposed| in_src(&image.dockerfile).is_some_and(|(_, name)| name == image.name);
    let needs_none = layout.len() == images.len() && images.iter().all(is_as_written);
    let mut patterns = Patterns { layout, shapes: Vec::new() };
    let mut text = HEADER.to_owned();
    if needs_none {
        text.push_str(DEFAULT);
    } else {
        if !finds(root, &tables(images, &patterns), images) {
            patterns.layout.clear();
        }
        for (shape, members) in shapes(images) {
            let mut more = patterns.clone();
            more.shapes.push((shape, members));
            if more.words().is_some() && finds(root, &tables(images, &more), images) {
                patterns = more;
            }
        }
    }
    text.push_str(&tables(images, &patterns));
    for note in notes {
        text.push('\n');
        note.lines().for_each(|line| push_comment(&mut text, line));
    }
    text
}

/// Whether a table can find the Dockerfile of an image.
pub(super) fn can_find(root: &Path, image: &Proposed) -> bool {
    let alone = std::slice::from_ref(image);
    is_in_layout(image)
        || !image.dockerfile.contains(SPECIAL)
            && finds(root, &tables(alone, &Patterns::default()), alone)
}

/// Whether a file with this text finds these images, and nothing else.
fn finds(root: &Path, text: &str, images: &[Proposed]) -> bool {
    let Ok(config) = Config::of_text(root, text, Facts::default()) else { return false };
    let definitions = config.definitions(root);
    let is_defined = |image: &Proposed| {
        definitions.images.iter().any(|it| {
            it.name == image.name && it.dockerfiles.values().any(|path| *path == image.dockerfile)
        })
    };
    definitions.problems.is_empty()
        && definitions.images.len() == images.len()
        && images.iter().all(is_defined)
}

/// Whether the pattern of `src/` finds an image.
fn is_in_layout(image: &Proposed) -> bool {
    in_src(&image.dockerfile).is_some_and(|(_, name)| as_name(name) == image.name)
}

/// Whether no other image has the same Dockerfile.
fn is_alone(image: &Proposed, images: &[Proposed]) -> bool {
    images.iter().filter(|other| other.dockerfile == image.dockerfile).count() == 1
}

/// The shapes that several images have, of which no other has the same Dockerfile.
fn shapes(images: &[Proposed]) -> BTreeMap<Shape, Vec<&Proposed>> {
    let mut shapes: BTreeMap<Shape, Vec<&Proposed>> = BTreeMap::new();
    for image in images {
        if let Some(shape) = shape(image)
            && is_alone(image, images)
        {
            shapes.entry(shape).or_default().push(image);
        }
    }
    shapes.retain(|_, members| members.len() > 1);
    shapes
}

fn shape(image: &Proposed) -> Option<Shape> {
    let mut parts: Vec<&str> = image.dockerfile.split('/').collect();
    let file = parts.pop()?.to_owned();
    let folder = parts.pop()?;
    let (before, after) = image.name.rsplit_once(&as_name(folder))?;
    Some(Shape {
        above: parts.join("/"),
        file,
        before: before.to_owned(),
        after: after.to_owned(),
        context: image.context.clone(),
    })
}

impl Patterns<'_> {
    /// A word for each shape; `None` if there are too few.
    fn words(&self) -> Option<Vec<&'static str>> {
        // The layout takes the first.
        let mut words = WORDS.iter().skip(usize::from(!self.layout.is_empty()));
        let word = |(shape, _): &(Shape, Vec<&Proposed>)| {
            let is_plain = shape.before.is_empty() && shape.after.is_empty();
            words.find(|word| **word != "image" || is_plain).copied()
        };
        self.shapes.iter().map(word).collect()
    }

    fn find(&self, image: &Proposed) -> bool {
        let in_shapes = self.shapes.iter().flat_map(|(_, members)| members);
        in_shapes.chain(&self.layout).any(|member| member.name == image.name)
    }
}

/// The tables of all images.
fn tables(images: &[Proposed], patterns: &Patterns<'_>) -> String {
    let shared = shared_context(images);
    let mut text = String::new();
    if let Some(context) = &shared {
        text.push_str(&format!("\ncontext = {}\n", template(context)));
    }
    if patterns.layout.len() < images.len() && !patterns.layout.is_empty() {
        text.push_str(&format!("\n[image.\"{{image}}\"]\ndockerfile = {}\n", quoted(LAYOUT)));
    }
    let words = patterns.words().unwrap_or_default();
    for ((shape, _), word) in patterns.shapes.iter().zip(words) {
        let Shape { above, file, before, after, context } = shape;
        let slash = if above.is_empty() { "" } else { "/" };
        text.push_str(&format!("\n[image.\"{before}{{{word}}}{after}\"]\n"));
        let pattern = format!("{above}{slash}{{{word}}}/{file}");
        text.push_str(&format!("dockerfile = {}\n", quoted(&pattern)));
        push_context(&mut text, context.as_ref(), shared.as_ref());
    }
    for image in images {
        push_table(&mut text, image, patterns, shared.as_ref());
    }
    text
}

/// The table of an image: all of it, or what a pattern does not say.
fn push_table(
    text: &mut String,
    image: &Proposed,
    patterns: &Patterns<'_>,
    shared: Option<&String>,
) {
    let is_patterned = patterns.find(image);
    let mut own = String::new();
    if !is_patterned {
        own.push_str(&format!("dockerfile = {}\n", quoted(&image.dockerfile)));
    }
    if patterns.layout.iter().any(|member| member.name == image.name) {
        push_context(&mut own, image.context.as_ref(), shared);
    } else if !is_patterned {
        // Its own would be the folder of the Dockerfile.
        let of_component = || in_src(&image.dockerfile).map(|_| own_context(&image.dockerfile));
        push_context(&mut own, image.context.clone().or_else(of_component).as_ref(), shared);
    }
    if let Some(target) = &image.target {
        own.push_str(&format!("target = {}\n", template(target)));
    }
    if let Some(file) = &image.args_file {
        own.push_str(&format!("args-file = {}\n", template(file)));
    }
    for (table, values) in [("args", &image.args), ("contexts", &image.contexts)] {
        for (name, value) in values {
            own.push_str(&format!("{table}.{} = {}\n", key(name), template(value)));
        }
    }
    let file = image.file.as_deref().unwrap_or_default();
    for (arg, value) in &image.unknown_args {
        push_comment(&mut own, &to_fill_in(&format!("args.{}", key(arg)), file, value));
    }
    for comment in &image.comments {
        push_comment(&mut own, comment);
    }
    if own.is_empty() {
        return;
    }
    text.push('\n');
    if !is_patterned && !file.is_empty() {
        push_comment(text, &format!("as in {file}"));
    }
    text.push_str(&format!("[image.{}]\n{own}", key(&image.name)));
}

/// The context that all images have, if it is not their own folder.
fn shared_context(images: &[Proposed]) -> Option<String> {
    let first = images.first()?.context.clone()?;
    images.iter().all(|image| image.context.as_ref() == Some(&first)).then_some(first)
}

fn push_context(text: &mut String, context: Option<&String>, shared: Option<&String>) {
    if let Some(context) = context.filter(|context| Some(*context) != shared) {
        text.push_str(&format!("context = {}\n", template(context)));
    }
}

fn push_comment(text: &mut String, comment: &str) {
    text.push_str(&format!("# {}\n", escape::line(comment)));
}

/// A value that stands for itself, although values are templates.
fn template(value: &str) -> String {
    quoted(&literally(value))
}

/// A text of TOML, which has the escapes of JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A key of TOML: bare if it can be.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}
