//! Where a model is built: a checkout, and an engine that is scripted or real.

mod git;
mod played;
mod real;

pub use played::{Played, reading, setting};
pub use real::Real;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::model::{Action, State};
use crate::reference::{self, Contents};

/// A checkout and an engine.
pub trait Site {
    /// Its root.
    fn root(&self) -> &Path;

    /// `text` with its prefix in place of `tt-`.
    fn own(&self, text: &str) -> String;

    /// Builds, and says what was built, or why it failed.
    fn build(&self, state: &State) -> Result<Done, String>;

    /// The components that `build -n` says to be up to date.
    fn up_to_date(&self, state: &State) -> Result<BTreeSet<String>, String>;

    /// Does what an edit asks for besides; `before` is the state before the edit.
    fn act(&self, action: &Action, before: &State, state: &State);

    /// Drops what was to happen during a build and did not.
    fn disarm(&self);

    /// The id that each name stands for.
    fn names(&self) -> BTreeMap<String, String>;

    /// What is in a component's image.
    fn contents(&self, component: &str) -> Contents;

    /// Begins: the model's files are there, nothing was built.
    fn begin(&self, state: &State) {
        self.act(&Action::MoveOutside, state, state);
        if state.head.is_some() {
            git::run(self.root(), &["init", "-q"]);
            self.act(&Action::GitCommit(0), state, state);
        }
    }
}

/// What a build did.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The components that were built.
    pub built: BTreeSet<String>,
    /// The components whose images got their names back.
    pub restored: BTreeSet<String>,
}

/// What is done to the files that the tool keeps, and by git, which is the same everywhere.
fn act_on_files<S: Site>(site: &S, action: &Action, before: &State, state: &State) {
    let own = |text: &str| site.own(text);
    let target = site.root().join("target");
    match action {
        // The record of what hooks left is lost with it, so that goes too, as with
        // 'git clean'.
        Action::Lose => {
            drop(fs::remove_dir_all(&target));
            remove_leftovers(site, state);
        }
        Action::Keep => copy(&target, &kept(site)),
        Action::RollBack if kept(site).exists() => {
            copy(&kept(site), &target);
            remove_leftovers(site, state);
        }
        Action::GitCommit(number) => {
            let files = state.files.keys().map(|path| own(path));
            git::commit(site.root(), files, *number);
        }
        Action::GitCheckout(number) => {
            git::run(site.root(), &["checkout", "-q", "-f", &format!("commit-{number}")]);
            state.bring(before, site.root(), own);
        }
        _ => {}
    }
}

fn remove_leftovers<S: Site>(site: &S, state: &State) {
    for path in reference::leftovers(state) {
        let path = site.root().join(path);
        drop(fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)));
    }
}

/// Where the copy of `target/` is.
fn kept<S: Site>(site: &S) -> PathBuf {
    let root = site.root();
    let name = root.file_name().expect("a folder has a name").display();
    root.with_file_name(format!("{name}.kept-target"))
}

fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    if !from.exists() {
        return;
    }
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}
