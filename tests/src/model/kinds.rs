//! What a model does besides plain edits of files, each to be switched off.

use std::collections::BTreeSet;
use std::env;

/// A kind of edit, action or component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Modes of folders, and empty folders.
    Folders,
    /// An earlier state of all files is restored.
    Undo,
    /// Images lose their names, or another image gets them.
    Names,
    /// Images that are made from ours, under our names and others.
    Derived,
    /// Containers of our images that are committed.
    Committed,
    /// A base's name is given to a foreign image between its build and its dependent's.
    Taken,
    /// An external base is another one.
    Outside,
    /// Dockerfiles with flavors.
    Flavors,
    /// `--whole-context`.
    Whole,
    /// Dockerfiles that read some of the context.
    Lean,
    /// `target/` is lost.
    Lost,
    /// `target/` is an older copy again.
    RolledBack,
    /// The workspace is a git repository, and `git:HEAD` an input.
    Git,
    /// Hooks that write another tree's files into their own.
    Nested,
    /// Builds that are killed.
    Killed,
    /// What `build -n` says is compared with what `build` does.
    Questions,
}

impl Kind {
    /// All of them, with the names that `KINDS` calls them by.
    pub const ALL: [(&str, Self); 16] = [
        ("folders", Self::Folders),
        ("undo", Self::Undo),
        ("names", Self::Names),
        ("derived", Self::Derived),
        ("committed", Self::Committed),
        ("taken", Self::Taken),
        ("outside", Self::Outside),
        ("flavors", Self::Flavors),
        ("whole", Self::Whole),
        ("lean", Self::Lean),
        ("lost", Self::Lost),
        ("rolled-back", Self::RolledBack),
        ("git", Self::Git),
        ("nested", Self::Nested),
        ("killed", Self::Killed),
        ("questions", Self::Questions),
    ];

    /// The kinds that are about files only.
    pub fn of_files() -> BTreeSet<Self> {
        [Self::Folders, Self::Undo].into()
    }
}

/// The kinds that `KINDS` lists (`KINDS=undo,derived`), or all but those that it lists with
/// `-` (`KINDS=-git,-nested`); all without it.
///
/// # Panics
///
/// If it lists one that does not exist.
pub fn kinds_of_environment() -> BTreeSet<Kind> {
    let all = Kind::ALL.iter().map(|(_, kind)| *kind).collect::<BTreeSet<_>>();
    let Ok(list) = env::var("KINDS") else { return all };
    let find = |word: &str| {
        let found = Kind::ALL.iter().find(|(name, _)| *name == word);
        found.unwrap_or_else(|| panic!("KINDS: no kind '{word}' in {:?}", Kind::ALL)).1
    };
    let words: Vec<&str> = list.split(',').filter(|word| !word.is_empty()).collect();
    let without: BTreeSet<Kind> =
        words.iter().filter_map(|word| word.strip_prefix('-')).map(find).collect();
    if !without.is_empty() {
        return all.difference(&without).copied().collect();
    }
    words.into_iter().map(find).collect()
}
