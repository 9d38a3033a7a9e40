//! `clean`: removes what is left of killed builds, and on request images without a name that this
//! workspace built, old ones that were shared, and the tool's own state.

use std::fs;
use std::io;
use std::path::Path;

use xtask_core::paths::STATE;
use xtask_core::problem::{Problem, Problems};

use crate::build::prepare::remove_leftovers;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::clean_shared::{self, CleanedShared, SharedOptions};
use crate::quantity;
use crate::system::records::ids_built;
use crate::system::removal::remove;
use crate::system::temp_dirs::TempDirs;

#[derive(Clone, Debug, Default)]
pub(crate) struct CleanOptions {
    /// Remove images without a name that this workspace built.
    pub(crate) images: bool,
    /// Remove everything that is kept between runs.
    pub(crate) state: bool,
    /// Delete old images that were shared.
    pub(crate) shared: Option<SharedOptions>,
    /// Say what would be removed.
    pub(crate) dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Default)]
pub(crate) struct Cleaned {
    /// The folders of components in which builds left something.
    pub(crate) folders: Vec<String>,
    /// The number of images, and their sizes in bytes.
    pub(crate) images: Option<(usize, u64)>,
    /// How many are used by containers or other images.
    pub(crate) used: usize,
    pub(crate) shared: Option<CleanedShared>,
    pub(crate) state: bool,
    pub(crate) dry_run: bool,
}

pub(crate) async fn run(
    options: &CleanOptions,
    ctx: &CommandContext,
) -> Result<Cleaned, CommandError> {
    let lock = ctx.lock("clean").await?;
    let mut cleaned = Cleaned { dry_run: options.dry_run, ..Cleaned::default() };
    let mut temp_dirs = TempDirs::read(&ctx.root);
    cleaned.folders = temp_dirs.made().iter().cloned().collect();
    temp_dirs.check_made()?;
    if !options.dry_run {
        remove_leftovers(&mut temp_dirs, &ctx.events)?;
    }
    if options.images {
        let removing = remove_images(&mut cleaned, ctx);
        ctx.unless_interrupted(Box::pin(removing)).await?;
    }
    if let Some(shared) = &options.shared {
        let cleaning = clean_shared::run(shared, ctx);
        cleaned.shared = Some(ctx.unless_interrupted(Box::pin(cleaning)).await?);
    }
    if options.state {
        let keeps_removed = !cleaned.folders.is_empty();
        cleaned.state = remove_state(&ctx.root, options.dry_run, keeps_removed)?;
    }
    // Whoever waits for it finds that its file is gone.
    drop(lock);
    Ok(cleaned)
}

async fn remove_images(cleaned: &mut Cleaned, ctx: &CommandContext) -> Result<(), CommandError> {
    let engine = ctx.engine().await?;
    let built = ids_built(&ctx.root);
    let (mut count, mut bytes) = (0, 0);
    for image in engine.untagged_images().await? {
        // Others derive images from ours, which have our labels too.
        if !built.contains(&image.id) {
            continue;
        }
        if cleaned.dry_run || engine.remove_image(&image.id).await? {
            count += 1;
            bytes += image.bytes;
        } else {
            cleaned.used += 1;
        }
    }
    for image in engine.kept_images().await?.into_iter().filter(|it| built.contains(&it.id)) {
        if !image.is_named {
            count += 1;
            bytes += image.bytes;
        }
        if !cleaned.dry_run {
            for name in &image.kept_names {
                engine.remove_image(name).await?;
            }
        }
    }
    cleaned.images = Some((count, bytes));
    Ok(())
}

/// Removes the state, except for what was moved there from components a moment ago.
///
/// # Errors
/// A killed build set files of components aside, which the next build puts back.
fn remove_state(root: &Path, is_dry: bool, keeps_removed: bool) -> Result<bool, CommandError> {
    let folder = root.join(STATE);
    let failed = |path: &str, message: String| {
        CommandError::from(Problems::from(Problem::of_file(path, message)))
    };
    let aside = format!("{STATE}/aside");
    if root.join(&aside).exists() {
        let message = "has files of components, which a killed build set aside: run a build, which \
                       puts them back";
        return Err(failed(&aside, message.to_owned()));
    }
    if is_dry {
        return Ok(folder.exists());
    }
    // At once, as another command may make a new one while this one is emptied.
    let old = root.join(format!("{STATE}.{}.removed", std::process::id()));
    let removed = || -> io::Result<bool> {
        match fs::rename(&folder, &old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed?,
        }
        if keeps_removed {
            fs::create_dir_all(&folder)?;
            match fs::rename(old.join("removed"), folder.join("removed")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        remove(&old).map(|()| true)
    };
    removed().map_err(|error| failed(STATE, format!("cannot be removed: {error}")))
}

impl Cleaned {
    /// What to tell.
    pub(crate) fn lines(&self) -> Vec<String> {
        let removed = if self.dry_run { "would remove" } else { "removed" };
        let mut lines = Vec::new();
        for folder in &self.folders {
            let folder = if folder.is_empty() { "." } else { folder };
            lines.push(format!("{removed} what a killed build left in {folder}/"));
        }
        if let Some((count, bytes)) = self.images {
            let size = quantity::bytes(bytes);
            lines.push(format!(
                "{removed} {} without a name (up to {size})",
                quantity::count(count, "image")
            ));
        }
        if self.used > 0 {
            lines.push(format!("left {} that containers or other images use", self.used));
        }
        if let Some(shared) = &self.shared {
            lines.extend(shared.lines(self.dry_run));
        }
        if self.state {
            lines.push(format!("{removed} {STATE}/"));
        }
        if lines.is_empty() {
            lines.push("nothing to clean".to_owned());
        }
        lines
    }
}
