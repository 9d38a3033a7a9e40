//! `init`: writes an `xtask.toml` that finds the images of a repository. It overwrites nothing.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask_core::paths::CONFIG_FILE;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::WorkspaceOptions;
use xtask_core::workspace::proposal::{self, Proposal};

use crate::build::prepare::read_workspace;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event::Event;
use crate::program;
use crate::quantity;

#[derive(Clone, Debug)]
pub(crate) struct InitOptions {
    pub(crate) reading: WorkspaceOptions,
    /// Print the file instead of writing it.
    pub(crate) dry_run: bool,
}

/// Writes the file, and says what is next; or gives the file's text.
pub(crate) fn run(options: &InitOptions, ctx: &CommandContext) -> Result<String, CommandError> {
    let Proposal { text, images } = proposal::propose(&ctx.root, bake(&ctx.root).as_ref());
    if options.dry_run {
        return Ok(text);
    }
    let path = ctx.root.join(CONFIG_FILE);
    let written = File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("exists: '{} init --dry-run' prints what would be written", program::name())
            }
            _ => format!("cannot be written: {error}"),
        };
        Problems::from(Problem::of_file(CONFIG_FILE, message))
    })?;
    if images.is_empty() {
        return Ok(format!(
            "wrote {CONFIG_FILE}\nno Dockerfiles yet; next: {} new NAME\n",
            program::name()
        ));
    }
    let (found, to_fill_in) = match read_workspace(&ctx.root, &options.reading, None, &ctx.events) {
        Ok((workspace, graph)) => (
            workspace.images().map(|(_, image)| image.name.clone()).collect(),
            graph.problems(&workspace, &workspace.components.ids().collect()),
        ),
        Err(problems) => (images, problems.iter().cloned().collect()),
    };
    for problem in to_fill_in {
        ctx.events.send(Event::Warning(problem));
    }
    Ok(format!(
        "wrote {CONFIG_FILE}, which finds {}: {}\nnext: {} build -n\n",
        quantity::count(found.len(), "image"),
        found.join(", "),
        program::name()
    ))
}

/// What Bake itself says about its file, which can have functions; none if it is not installed.
fn bake(root: &Path) -> Option<Value> {
    if !root.join("docker-bake.hcl").exists() {
        return None;
    }
    let mut bake = Command::new("docker");
    bake.args(["buildx", "bake", "--print"]).current_dir(root);
    let printed = bake.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    serde_json::from_slice(&printed.stdout).ok()
}
