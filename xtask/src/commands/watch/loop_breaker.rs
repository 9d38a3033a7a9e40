//! Components that hooks keep making stale: they are not rebuilt for ever.
//!
//! A hook can write into its own component, into one that its component is made from, into what
//! it declares to read, or into a component whose hook writes back. So what counts is only
//! whether all that makes a component stale changed while hooks ran, several rounds in a row.

use std::collections::{BTreeMap, BTreeSet};

use xtask_core::ids::ComponentId;
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Workspace;

use crate::commands::watch::change_batch::ChangeBatch;
use crate::commands::watch::reload::Loaded;

/// How many times in a row a component is rebuilt for what hooks wrote.
const MOST: u32 = 2;

/// By component name, how only hooks made it stale.
#[derive(Debug, Default)]
pub(crate) struct LoopBreaker(BTreeMap<String, Streak>);

#[derive(Debug, Default)]
struct Streak {
    /// How many times in a row.
    times: u32,
    /// The components whose hooks may have done it each time.
    hooks: BTreeSet<String>,
}

impl LoopBreaker {
    /// The components of the `stale` ones that are not to be rebuilt until another file
    /// changes, and warnings that name them.
    pub(crate) fn held_back(
        &mut self,
        batch: &ChangeBatch,
        loaded: &Loaded,
        stale: &BTreeSet<ComponentId>,
    ) -> (BTreeSet<ComponentId>, Vec<Problem>) {
        if !batch.has_paths() && !batch.is_lost() {
            return Default::default();
        }
        let workspace = &loaded.workspace;
        let written = batch.written_by_hooks(workspace, &loaded.graph, stale);
        if written.is_empty() {
            self.0.clear();
        }
        let mut held_back: BTreeMap<_, BTreeSet<ComponentId>> = BTreeMap::new();
        for id in stale {
            let name = &workspace.components[*id].name;
            let Some((path, hooks)) = written.get(id) else {
                self.0.remove(name);
                continue;
            };
            let streak = self.0.entry(name.clone()).or_default();
            streak.add(hooks);
            if let Some(hook) = streak.hook(name, workspace).filter(|_| streak.times > MOST) {
                held_back.entry((hook, *path)).or_default().insert(*id);
            }
        }
        let warnings = held_back.iter().map(|((hook, path), components)| {
            let names = components.iter().map(|id| format!("'{}'", loaded.name(*id)));
            let names: Vec<String> = names.collect();
            let are = if names.len() == 1 { "it is" } else { "they are" };
            let message = format!(
                "wrote {} again, which makes {} stale: {are} not rebuilt until another file \
                 changes. Let the hook write to generated/, or write the same bytes",
                path.display(),
                names.join(", ")
            );
            Problem::of_file(hook, message)
        });
        let warnings = warnings.collect();
        (held_back.into_values().flatten().collect(), warnings)
    }
}

impl Streak {
    fn add(&mut self, hooks: &BTreeSet<String>) {
        self.times += 1;
        let each_time: BTreeSet<String> = self.hooks.intersection(hooks).cloned().collect();
        self.hooks = if each_time.is_empty() { hooks.clone() } else { each_time };
    }

    /// The hook that most likely makes a component stale: its own if that may be.
    fn hook(&self, component: &str, workspace: &Workspace) -> Option<String> {
        let name = self.hooks.get(component).or_else(|| self.hooks.first())?;
        let component = &workspace.components[workspace.find(name)?];
        component.hooks().next().map(ToString::to_string)
    }
}
