//! What every image must contain, worked out from the model alone: its files after the
//! ignore rules, what hooks write, what is put under `dependency/`, and the instructions
//! that the model writes. It shares no code with the tool.

use std::collections::BTreeMap;

use crate::model::{Component, Node, State, Writes, with_parents};

/// What is in an image: by path a file, folder or link, by `label NAME` a label's value.
pub type Contents = BTreeMap<String, String>;

type Tree = BTreeMap<String, Node>;

/// By component, what its image must contain.
pub fn images(state: &State) -> BTreeMap<String, Contents> {
    let mut images: BTreeMap<String, Contents> = BTreeMap::new();
    for name in state.in_order() {
        let component = &state.components[name];
        let mut image = match component.base.as_deref() {
            None => Contents::new(),
            Some("outside") => outside(state.outside),
            Some(base) => images[base].clone(),
        };
        if component.has_word {
            image.insert("label word".to_owned(), state.word.clone());
        }
        if let Some(flavor) = component.chosen(state.flavor()) {
            image.insert("label flavor".to_owned(), flavor.to_owned());
        }
        let context = in_image(&context(state, name));
        for (source, target) in component.copies(name) {
            copy(&context, &source, &target, &mut image);
        }
        if let Some(copied) = &component.copied {
            copy(&images[copied], copied, &format!("{name}-from"), &mut image);
        }
        images.insert(name.clone(), image);
    }
    images
}

/// The external base image of a version.
pub fn outside(version: u32) -> Contents {
    let file = Node::File(version.to_string(), 0o644);
    [("outside".to_owned(), file.in_image())].into()
}

/// `COPY source /target/`, of a folder: what is in it, but not its own mode.
pub fn copy(from: &Contents, source: &str, target: &str, into: &mut Contents) {
    let below = if source == "." { String::new() } else { format!("{source}/") };
    for (place, _) in format!("{target}/").match_indices('/') {
        let folder = Node::Folder(0o755).in_image();
        into.entry(target[..place].to_owned()).or_insert(folder);
    }
    for (path, what) in from {
        if let Some(rest) = path.strip_prefix(&below).filter(|_| !path.starts_with("label ")) {
            into.insert(format!("{target}/{rest}"), what.clone());
        }
    }
}

/// What hooks leave in the components' folders, which a checkout does not have.
pub fn leftovers(state: &State) -> Vec<String> {
    let left = |(name, component): (&String, &Component)| {
        let own = match component.hook.as_ref()?.writes {
            Writes::Nothing => return None,
            Writes::OneFile => "written",
            Writes::WholeFolder => "version",
            Writes::IntoFolder => "v",
        };
        Some(format!("src/{name}/{own}"))
    };
    state.components.iter().filter_map(left).collect()
}

fn in_image(tree: &Tree) -> Contents {
    tree.iter().map(|(path, node)| (path.clone(), node.in_image())).collect()
}

/// What the engine can see of a component: its folder after its hook ran, and the folders
/// of those that it depends on after their own builds, less what is ignored.
fn context(state: &State, name: &str) -> Tree {
    let mut tree = after_hook(state, name);
    for needed in state.components[name].needs() {
        let at = format!("dependency/{needed}");
        tree.insert(at.clone(), Node::Folder(mode_of(state, needed)));
        for (path, node) in after_hook(state, needed) {
            tree.insert(format!("{at}/{path}"), node);
        }
    }
    let rules = match tree.get(".dockerignore") {
        Some(Node::File(rules, _)) => rules.clone(),
        _ => String::new(),
    };
    without_ignored(with_parents(tree), &rules)
}

fn mode_of(state: &State, component: &str) -> u32 {
    match state.files.get(&format!("src/{component}")) {
        Some(Node::Folder(mode)) => *mode,
        _ => 0o755,
    }
}

/// A component's folder after its `build-pre.sh`.
fn after_hook(state: &State, name: &str) -> Tree {
    let component = &state.components[name];
    let mut tree = state.below(&format!("src/{name}"));
    if let Some(hook) = &component.hook {
        let mut out = text(state, "shared/0") + &text(state, "shared/deep/2");
        out += &format!("{}\n", state.variables["NAME"]);
        for needed in component.needs() {
            out += &format!("{needed}\n");
        }
        if let Some(head) = state.head.filter(|_| hook.reads_head) {
            out += &format!("commit {head}\n");
        }
        tree.insert("generated/out".to_owned(), Node::File(out, 0o644));
        match hook.writes {
            Writes::Nothing => {}
            Writes::OneFile => {
                tree.insert("written".to_owned(), Node::File(text(state, "shared/1"), 0o644));
            }
            Writes::WholeFolder => tree.extend(put_at("version", state)),
            Writes::IntoFolder => tree.extend(put_at("v", state)),
        }
    }
    with_parents(tree)
}

fn put_at<'a>(folder: &'a str, state: &State) -> impl Iterator<Item = (String, Node)> + 'a {
    state.below("version").into_iter().map(move |(path, node)| (format!("{folder}/{path}"), node))
}

fn text(state: &State, path: &str) -> String {
    match &state.files[path] {
        Node::File(text, _) => text.clone(),
        other => panic!("{path} is {other:?}"),
    }
}

/// Leaves out what the rules say, of the few forms that the model writes. An ignored folder
/// stays as the parent of what is not ignored in it.
fn without_ignored(mut tree: Tree, rules: &str) -> Tree {
    let is_ignored = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        match rules.trim_end() {
            "" => false,
            "*.md" => parts[0].strip_suffix(".md").is_some(),
            "dependency/*/notes.md" => {
                matches!(parts[..], ["dependency", _, "notes.md", ..])
            }
            "**/c" => parts.contains(&"c"),
            "d\n!d/e" => parts[0] == "d" && parts.get(1) != Some(&"e"),
            other => panic!("the model does not write {other:?}"),
        }
    };
    let kept: Vec<String> = tree.keys().filter(|path| !is_ignored(path)).cloned().collect();
    let is_parent = |path: &str| {
        let below = format!("{path}/");
        kept.iter().any(|kept| kept.starts_with(&below))
    };
    tree.retain(|path, _| !is_ignored(path) || is_parent(path));
    tree
}
