//! Paths on the command line, which shells complete: the component that one leads to.
//!
//! In `src/`, names of components have no slash, so a word with a slash is a path. Where
//! `xtask.toml` says which images there are, names may have one, and a word is a path if there is
//! something at that path: then it is made relative to the root, and the workspace finds the
//! component.

use std::path::{Component, Path, PathBuf};

use xtask_core::escape;
use xtask_core::paths::SRC;
use xtask_core::problem::{Problem, Problems};

/// Puts the names of components in place of paths. They are relative to the current folder
/// `here`, or else to the root of the workspace. A path may be a glob.
pub(crate) fn resolve(words: Vec<&mut String>, here: &Path, root: &Path) -> Result<(), Problems> {
    let is_path = |word: &&mut String| word.contains('/') || matches!(word.as_str(), "." | "..");
    let mut problems = Vec::new();
    for word in words.into_iter().filter(is_path) {
        match component(Path::new(word), here, root) {
            Some(name) => *word = name,
            None => problems.push(Problem::of_request(format!(
                "'{}' leads to no component: these are the folders in {}",
                escape::line(word),
                root.join(SRC).display()
            ))),
        }
    }
    Problems::check(problems)
}

/// Makes paths relative to the root, which is `.`. They are relative to the current folder `here`,
/// or else to the root. Other words are left as they are.
pub(crate) fn make_relative(words: Vec<&mut String>, here: &Path, root: &Path) {
    for word in words {
        let is_path = word.contains('/') || matches!(word.as_str(), "." | "..");
        let full = [here, root].into_iter().map(|from| without_dots(&from.join(&*word)));
        let inside = full.filter(|full| full.exists()).find_map(|full| {
            let below = full.strip_prefix(without_dots(root)).ok()?;
            below.to_str().map(str::to_owned)
        });
        if let Some(inside) = inside.filter(|_| is_path) {
            *word = if inside.is_empty() { ".".to_owned() } else { inside };
        }
    }
}

fn component(path: &Path, here: &Path, root: &Path) -> Option<String> {
    let sources =
        [Some(without_dots(root)), root.canonicalize().ok()].map(|root| Some(root?.join(SRC)));
    [here, root].iter().find_map(|from| {
        let path = without_dots(&from.join(path));
        let inside = sources.iter().flatten().find_map(|src| path.strip_prefix(src).ok())?;
        Some(inside.components().next()?.as_os_str().to_str()?.to_owned())
    })
}

/// Resolves `.` and `..` by the text alone: a component may be a link.
fn without_dots(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(resolved.pop()),
            part => resolved.push(part),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(word: &str, here: &str) -> String {
        let mut word = word.to_owned();
        match resolve(vec![&mut word], Path::new(here), Path::new("/repo")) {
            Ok(()) => word,
            Err(problems) => problems.to_string(),
        }
    }

    #[test]
    fn a_path_leads_to_the_component_that_it_is_in() {
        for (word, here, component) in [
            ("web", "/repo", "web"),
            ("src/web/", "/repo", "web"),
            ("src/web", "/repo", "web"),
            ("./src/web", "/repo", "web"),
            ("src/web/build", "/repo", "web"),
            ("src/web/build/web.dockerfile", "/repo", "web"),
            ("/repo/src/web/", "/elsewhere", "web"),
            ("src/../src/web", "/repo", "web"),
            ("web/", "/repo/src", "web"),
            ("../web", "/repo/src/api", "web"),
            (".", "/repo/src/api/build", "api"),
            ("..", "/repo/src/api/build", "api"),
            ("build/", "/repo/src/api", "api"),
            // The root counts as well.
            ("src/web/", "/repo/docs", "web"),
            ("src/web/", "/repo/src/api", "api"),
            ("src/web/", "/elsewhere", "web"),
            ("src/auth-*", "/repo", "auth-*"),
            ("src/{web,api}/", "/repo", "{web,api}"),
        ] {
            assert_eq!(resolved(word, here), component, "{word} in {here}");
        }
    }

    #[test]
    fn a_path_to_elsewhere_is_an_error() {
        for (word, here) in [("docs/web", "/repo"), ("src/", "/repo"), (".", "/repo"), ("..", "/")]
        {
            let said =
                format!("'{word}' leads to no component: these are the folders in /repo/src");
            assert_eq!(resolved(word, here), said);
        }
    }
}
