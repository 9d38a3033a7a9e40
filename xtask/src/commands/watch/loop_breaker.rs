//! Components that their own hooks keep making stale: they are not rebuilt for ever.

use std::collections::{BTreeMap, BTreeSet};

use xtask_core::ids::ComponentId;
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Workspace;

use crate::commands::watch::change_batch::ChangeBatch;

/// How many times in a row a component is rebuilt for what its own hooks wrote.
const MOST: u32 = 2;

/// By component name, how many times in a row only its own hooks made it stale.
#[derive(Debug, Default)]
pub(crate) struct LoopBreaker(BTreeMap<String, u32>);

impl LoopBreaker {
    /// The components of the `stale` ones that are not to be rebuilt until another file
    /// changes, and a warning for each.
    pub(crate) fn held_back(
        &mut self,
        batch: &ChangeBatch,
        workspace: &Workspace,
        stale: &BTreeSet<ComponentId>,
    ) -> (BTreeSet<ComponentId>, Vec<Problem>) {
        let (mut held_back, mut warnings) = (BTreeSet::new(), Vec::new());
        for id in stale {
            let component = &workspace.components[*id];
            let Some(path) = batch.only_own(workspace, *id) else {
                self.0.remove(&component.name);
                continue;
            };
            let times = self.0.entry(component.name.clone()).or_default();
            *times += 1;
            let hook = component.hooks().next();
            if let Some(hook) = hook.filter(|_| *times > MOST) {
                let message = format!(
                    "wrote {} again, which makes '{}' stale: it is not rebuilt until another \
                     file changes. Let the hook write to generated/, or write the same bytes",
                    path.display(),
                    component.name
                );
                warnings.push(Problem::of_file(hook.to_string(), message));
                held_back.insert(*id);
            }
        }
        (held_back, warnings)
    }
}
