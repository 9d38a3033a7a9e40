//! `watch`: builds what is stale, and does so again whenever a change makes
//! something stale.
//!
//! News of the file system are hints. What decides is what a component is made from,
//! as digests: a component is looked at when something in it, in what it needs or in
//! what its hooks are declared to read was touched, and is built, with its
//! dependents, if it is not what it was when it was made last. So a file that is
//! written with the same bytes does nothing, nor does what a hook writes once it
//! writes the same.
//!
//! A change is seen at any time. If it comes while a round is at work, the steps
//! that it affects end and begin again with the new contents, and what is not
//! affected goes on. Where there may be other steps now, as with another
//! `component.dep`, they only end, and the next round begins when all else is done.
//! What a component's own hook writes while it runs ends nothing, and as nobody can tell
//! who wrote it, that holds for a save too until hooks have come to their end once and
//! left their component as it was. If what they write makes the component stale three
//! times in a row, it is built no more until somebody else changes something.

mod change_batch;
mod input_snapshot;
mod reload;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::plan::graph::Graph;
use xtask_core::problem::{Problem, Problems};
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::workspace::components::Workspace;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::cancel::Cancellation;
use crate::build::options::BuildOptions;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::push::{self, PushOptions};
use crate::engine::Engine;
use crate::event::Event;
use crate::system::post_build_command::{Built, PostBuildCommand};
use crate::system::records::{read_memory, write_memory};
use crate::system::watcher::filter::WatchFilter;
use crate::system::watcher::{FsEvent, Watcher};
use change_batch::ChangeBatch;
use input_snapshot::{InputSnapshot, states};

/// After so many builds in a row for what its own hook wrote, a component is left alone.
const MOST_OWN: u32 = 2;

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// How to build; `components` says what is looked after.
    pub build: BuildOptions,
    /// How long nothing must have happened before a round begins.
    pub debounce: Duration,
    /// Look at everything that often, instead of being told by the system.
    pub poll: Option<Duration>,
    /// Build nothing before the first change.
    pub no_initial: bool,
    /// What the shell runs after a round in which nothing failed.
    pub on_success: Option<String>,
    /// What it runs after another.
    pub on_failure: Option<String>,
    /// How to push what was built, if it is to be; the images are filled in.
    pub push: Option<PushOptions>,
}

/// What somebody asks of the loop.
#[derive(Clone, Copy, Debug)]
pub enum UserRequest {
    /// Build what is stale, also where no change was seen.
    Build,
    /// Build what is watched, be it up to date or not.
    Force,
    /// Act on no change, or do again.
    Pause,
}

/// How often folders that cannot be watched are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Builds at every change, until the user ends it.
pub async fn run(
    options: &WatchOptions,
    wishes: Option<UnboundedReceiver<UserRequest>>,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    let engine = ctx.engine().await?;
    run_with(&engine, options, wishes, ctx).await
}

/// The same with any engine.
pub async fn run_with<E: Engine>(
    engine: &E,
    options: &WatchOptions,
    wishes: Option<UnboundedReceiver<UserRequest>>,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    options.build.reading.check().map_err(Problems::from)?;
    let registry = options.build.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    if let (Some(push), Some(registry)) = (&options.push, &registry) {
        push::tag(push, registry).map_err(Problems::from)?;
    }
    let watcher = Watcher::new(&ctx.root, options.poll.is_some(), options.poll.unwrap_or(INTERVAL))
        .map_err(|error| Problem::of_request(format!("changes cannot be watched: {error}")))
        .map_err(Problems::from)?;
    let trees = TreeCache::new(&ctx.root, read_memory(&ctx.root)).watched();
    let mut watch = Watch {
        engine,
        options,
        ctx,
        registry,
        trees: Arc::new(trees),
        watcher,
        scope: WatchFilter::default(),
        engine_images: None,
        reading: None,
        made: InputSnapshot::default(),
        missed: ChangeBatch::default(),
        before: None,
        own: BTreeMap::new(),
        steady: BTreeSet::new(),
        over: None,
        is_dirty: true,
        warned: BTreeSet::new(),
        wishes,
        wish: None,
        is_paused: false,
        to_push: Vec::new(),
        follow_up: PostBuildCommand::default(),
    };
    let ended = watch.keep_going().await;
    watch.follow_up.stop().await;
    if let Some(memory) = watch.trees.memory() {
        drop(write_memory(&ctx.root, &memory));
    }
    ended
}

/// A workspace that can be read.
type Reading = Arc<(Arc<Workspace>, Graph)>;

/// The loop between two rounds.
struct Watch<'a, E> {
    engine: &'a E,
    options: &'a WatchOptions,
    ctx: &'a CommandContext,
    registry: Option<RegistryConfig>,
    trees: Arc<TreeCache>,
    watcher: Watcher,
    scope: WatchFilter,
    /// What the engine held after the last round.
    engine_images: Option<EngineImages>,
    /// The workspace as it was when it could be read last, if it can be now.
    reading: Option<Reading>,
    made: InputSnapshot,
    /// What changed since the workspace could be read.
    missed: ChangeBatch,
    /// The last round's workspace, and what was at work in it when.
    before: Option<(Arc<Workspace>, Cancellation)>,
    /// By component, how often in a row its own hooks made it stale.
    own: BTreeMap<String, u32>,
    /// The components whose hooks left their tree as it was when they ran last.
    steady: BTreeSet<String>,
    /// How the last round ended, until that is acted on.
    over: Option<(bool, Built)>,
    /// Whether anything was said since it was last told what is watched.
    is_dirty: bool,
    /// The components of whose hooks it was said that what they read is not watched.
    warned: BTreeSet<String>,
    wishes: Option<UnboundedReceiver<UserRequest>>,
    /// A wish that is still to be fulfilled.
    wish: Option<UserRequest>,
    is_paused: bool,
    /// The images that were built and are not pushed yet.
    to_push: Vec<String>,
    follow_up: PostBuildCommand,
}

impl<E: Engine> Watch<'_, E> {
    async fn keep_going(&mut self) -> Result<(), CommandError> {
        // Nothing is read before it is watched.
        self.watcher.cover_structure();
        self.read().await;
        let warnings = [self.watcher.distance(), self.watcher.shortage(&self.scope)];
        for warning in warnings.into_iter().flatten() {
            self.ctx.events.send(Event::Warning(Problem::of_request(warning)));
        }
        if self.options.no_initial {
            self.note_all().await;
        }
        let ctx = self.ctx;
        let mut batch = ChangeBatch::everything();
        loop {
            loop {
                batch = match self.wish.take() {
                    Some(wish) => self.fulfil(wish, batch).await?,
                    None if batch.is_empty() => break,
                    None if self.is_paused => {
                        self.missed.merge(batch);
                        break;
                    }
                    None => self.answer(batch).await?,
                }
            }
            if let Some((is_good, built)) = self.over.take() {
                self.follow(is_good, &built);
            }
            if std::mem::take(&mut self.is_dirty) {
                let (is_paused, components) = (self.is_paused, self.looked_after().len());
                ctx.events.send(Event::Watching { is_paused, components });
            }
            let pushing = push_these(self.options.push.as_ref(), self.to_push.clone(), ctx);
            batch = tokio::select! {
                // A push that is cut off by a change begins again after it.
                batch = self.gather() => batch,
                () = ctx.interrupt.wait() => return Ok(()),
                pushed = pushing => {
                    self.to_push.clear();
                    self.is_dirty = true;
                    match pushed {
                        Ok(()) | Err(CommandError::Interrupted) => {}
                        Err(error) => self.say(&error),
                    }
                    ChangeBatch::default()
                }
            };
        }
    }

    /// Warns of hooks that may read what nobody watches, once of each component.
    fn warn_of_undeclared(&mut self) {
        let Some(reading) = self.reading.clone() else { return };
        let looked_after = self.looked_after();
        let components = reading.0.components.iter().enumerate();
        let undeclared = components.filter(|(place, component)| {
            component.has_hooks() && component.inputs.is_none() && looked_after.contains(place)
        });
        let names: Vec<&str> = undeclared
            .map(|(_, component)| component.name.as_str())
            .filter(|name| self.warned.insert((*name).to_owned()))
            .collect();
        if let Some(first) = names.first() {
            let message = format!(
                "what the hooks of {} read outside their components is not watched, as no \
                 build/inputs declares it: 'cargo xtask inputs {first}' prints what it would hold",
                names.join(", ")
            );
            self.ctx.events.send(Event::Warning(Problem::of_request(message)));
        }
    }

    /// Does what somebody asked for, and gives what is left of what was heard.
    async fn fulfil(
        &mut self,
        wish: UserRequest,
        batch: ChangeBatch,
    ) -> Result<ChangeBatch, CommandError> {
        self.is_dirty = true;
        if let UserRequest::Pause = wish {
            self.is_paused = !self.is_paused;
            let mut batch = batch;
            batch.merge(std::mem::take(&mut self.missed));
            return Ok(batch);
        }
        // A way out should anything ever be missed.
        self.trees.forget();
        self.engine_images = None;
        self.read().await;
        let Some(reading) = self.reading.clone() else {
            self.missed.merge(batch);
            return Ok(ChangeBatch::default());
        };
        let (workspace, _) = &*reading;
        let named = workspace.find_all(&self.options.build.components)?;
        let selected = match wish {
            UserRequest::Force if !named.is_empty() => named,
            _ => self.looked_after(),
        };
        self.missed = ChangeBatch::default();
        self.round(&reading, &selected, matches!(wish, UserRequest::Force)).await
    }

    /// Waits for news, and then until they stop, or for a wish.
    async fn gather(&mut self) -> ChangeBatch {
        let mut batch = ChangeBatch::default();
        let news = tokio::select! {
            news = self.watcher.hear(&self.scope) => news,
            wish = next_wish(&mut self.wishes) => {
                self.wish = Some(wish);
                return batch;
            }
        };
        self.note(&mut batch, news);
        while !batch.is_over(&self.ctx.root, self.options.debounce) {
            tokio::select! {
                news = self.watcher.hear(&self.scope) => {
                    self.note(&mut batch, news);
                }
                () = tokio::time::sleep_until(batch.next_look(self.options.debounce)) => {}
            }
        }
        batch
    }

    /// What is known of what changed is good no longer.
    fn note(&self, batch: &mut ChangeBatch, news: FsEvent) {
        match &news {
            FsEvent::Changed(change) => {
                for path in &change.paths {
                    self.trees.changed(path);
                }
            }
            FsEvent::Lost => self.trees.forget(),
        }
        batch.add(news);
    }

    /// Builds what is not what it was, and gives what was heard meanwhile.
    async fn answer(&mut self, mut batch: ChangeBatch) -> Result<ChangeBatch, CommandError> {
        if let Some((workspace, cancellation)) = &self.before {
            batch.find_own(workspace, cancellation, &self.trees);
        }
        batch.merge(std::mem::take(&mut self.missed));
        // What is first was read a moment ago.
        if !batch.is_first() {
            if batch.is_lost() {
                self.watcher.start_over();
                self.watcher.cover_structure();
            }
            if batch.is_lost() || batch.touches_structure(&self.ctx.root) || self.reading.is_none()
            {
                self.read().await;
            }
        }
        let Some(reading) = self.reading.clone() else {
            self.missed = batch;
            return Ok(ChangeBatch::default());
        };
        let (workspace, graph) = &*reading;
        let touched = batch.touched(workspace);
        let mut candidates = graph.dependents(&touched);
        candidates.extend(self.made.doubtful(workspace));
        let looked_after = self.looked_after();
        candidates.retain(|place| looked_after.contains(place));
        let now = states(&reading, &self.trees, candidates).await;
        let mut changed = self.made.changed(workspace, &now);
        self.leave_alone(&batch, workspace, &now, &mut changed);
        if changed.is_empty() {
            return Ok(ChangeBatch::default());
        }
        self.is_dirty = true;
        if !batch.is_first() {
            self.tell(&batch, workspace, &changed, &touched);
        }
        let mut selected = graph.dependents(&changed);
        selected.retain(|place| looked_after.contains(place));
        self.round(&reading, &selected, false).await
    }

    /// Components whose own hooks keep making them stale are built no more.
    fn leave_alone(
        &mut self,
        batch: &ChangeBatch,
        workspace: &Workspace,
        now: &input_snapshot::ComponentStates,
        changed: &mut BTreeSet<usize>,
    ) {
        let mut alone = BTreeSet::new();
        for place in changed.iter() {
            let component = &workspace.components[*place];
            let Some(path) = batch.only_own(workspace, *place) else {
                self.own.remove(&component.name);
                continue;
            };
            let times = self.own.entry(component.name.clone()).or_default();
            *times += 1;
            if *times > MOST_OWN
                && let Some(hook) = component.pre_hook.as_ref().or(component.post_hook.as_ref())
            {
                let message = format!(
                    "wrote {} once more, which makes {} stale: it is built no more until \
                     somebody else changes it. Let the hook write into generated/, or write \
                     the same bytes",
                    path.display(),
                    component.name
                );
                self.ctx.events.send(Event::Warning(Problem::of_file(hook, message)));
                alone.insert(*place);
            }
        }
        changed.retain(|place| !alone.contains(place));
        self.made.set(workspace, now, &alone);
    }

    /// Runs what the user wants to be done after a round.
    fn follow(&mut self, is_good: bool, built: &Built) {
        let options = self.options;
        let command = if is_good { &options.on_success } else { &options.on_failure };
        if let Some(command) = command
            && let Err(error) = self.follow_up.start(command, &self.ctx.root, built)
        {
            let problem = Problem::of_request(format!("'{command}' does not start: {error}"));
            self.say(&Problems::from(problem).into());
        }
    }

    /// What is wrong ends no loop.
    fn say(&mut self, error: &CommandError) {
        self.is_dirty = true;
        self.ctx.events.send(Event::Stuck { reason: error.to_string() });
    }
}

/// Never comes where nobody can wish.
async fn next_wish(wishes: &mut Option<UnboundedReceiver<UserRequest>>) -> UserRequest {
    if let Some(wishes) = wishes
        && let Some(wish) = wishes.recv().await
    {
        return wish;
    }
    std::future::pending().await
}

/// Pushes these images, if that is asked for; never ends where there is nothing to do.
async fn push_these(
    options: Option<&PushOptions>,
    images: Vec<String>,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    match options {
        Some(options) if !images.is_empty() => {
            push::run(&PushOptions { images, ..options.clone() }, ctx).await
        }
        _ => std::future::pending().await,
    }
}
