//! `watch`: builds what is stale, and does so again whenever a change makes something stale.
//!
//! Events of the file system are hints; contents decide. A component is digested when
//! something in it, in its dependencies or in the declared inputs of its hooks was touched,
//! and it is built, with its dependents, if the digest is not the one that it was built from
//! last. So writing a file with the same bytes builds nothing, nor does a hook that writes the
//! same again.
//!
//! Changes that come while a round runs restart the steps that they affect; what they do not
//! affect goes on. Where they may alter the plan itself, as a new `component.dep` does, the
//! affected steps only end, and the next round begins when everything else is done. What a
//! component's own hook may have written while it ran restarts nothing; the same holds for a
//! save at that time, until the hooks have once completed and nothing in the component's folder
//! changed meanwhile. A component that hooks make stale three times in a row is not rebuilt
//! until another file changes.

mod after_round;
mod change_batch;
mod changes;
mod image_watch;
mod input_snapshot;
mod loop_breaker;
mod options;
mod reload;
mod round;
mod session;
mod setup;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::config::Config;

use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::push_references::PushReferences;
use crate::engine::Engine;
use crate::system::records::{read_memory, write_memory};
use crate::system::watcher::Watcher;

pub use options::{UserRequest, WatchOptions};

use after_round::AfterRound;
use change_batch::ChangeBatch;
use changes::Changes;
use image_watch::ImageWatch;
use input_snapshot::InputSnapshot;
use loop_breaker::LoopBreaker;
use reload::Loader;
use session::{LastRound, Requests, Session};
use setup::Setup;

/// The interval at which folders that cannot be watched are compared.
const INTERVAL: Duration = Duration::from_secs(1);

/// Builds at every change, until Ctrl-C.
pub async fn run(
    options: &WatchOptions,
    keys: Option<UnboundedReceiver<UserRequest>>,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    let engine = ctx.engine().await?;
    run_with(&engine, options, keys, ctx).await
}

/// The same with any engine.
pub async fn run_with<E: Engine>(
    engine: &E,
    options: &WatchOptions,
    keys: Option<UnboundedReceiver<UserRequest>>,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    // What is wrong with the file is for the user to mend while this watches.
    let config = Config::read(&ctx.root, options.reading.facts.clone());
    if let Ok(config) = &config {
        options.reading.check(&config.flavors).map_err(Problems::from)?;
    }
    let registry = options.reading.registry()?;
    let registry = registry.as_ref();
    if let Some(push) = &options.push {
        let (config, tag) = (config.unwrap_or_default(), push.tag.as_deref());
        let references = PushReferences::new(&ctx.root, &config, registry, tag, "set XTASK_TAG");
        references.and_then(|references| references.check()).map_err(Problems::from)?;
    }
    let watcher = Watcher::new(&ctx.root, options.poll.is_some(), options.poll.unwrap_or(INTERVAL))
        .map_err(|error| Problem::of_request(format!("changes cannot be watched: {error}")))
        .map_err(Problems::from)?;
    let trees = Arc::new(TreeCache::new(&ctx.root, read_memory(&ctx.root)).watched());
    let setup = Setup { engine, ctx, options, registry, trees: Arc::clone(&trees) };
    let mut session = Session {
        setup: &setup,
        changes: Changes::new(watcher, Arc::clone(&trees), ctx.root.clone(), options.debounce),
        loader: Loader { setup: &setup, warned: HashSet::new() },
        loaded: None,
        is_broken: false,
        snapshot: InputSnapshot::default(),
        postponed: ChangeBatch::default(),
        requests: Requests::new(keys),
        loop_breaker: LoopBreaker::default(),
        last_round: LastRound::default(),
        image_watch: ImageWatch::new(engine),
        failed: BTreeSet::new(),
        after_round: AfterRound::new(options),
        is_dirty: true,
    };
    let ended = session.run().await;
    session.after_round.stop_command().await;
    // Where the root is gone, nothing is to take its place.
    if session.changes.check_root().is_ok()
        && let Some(memory) = trees.memory_to_save()
    {
        // That saves time, and nothing else depends on it.
        drop(write_memory(&ctx.root, &memory));
    }
    ended
}
