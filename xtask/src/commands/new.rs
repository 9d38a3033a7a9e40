//! `new`: makes a component that builds at once, where the workspace has its components.

use std::fs;
use std::io;
use std::path::Path;

use xtask_core::image_reference;
use xtask_core::paths::{BUILD, CONFIG_FILE, SRC, join};
use xtask_core::problem::{Problem, Problems, did_you_mean};
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};
use xtask_core::workspace::config::Config;

use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::program;

#[derive(Clone, Debug)]
pub(crate) struct NewOptions {
    pub(crate) reading: WorkspaceOptions,
    pub(crate) name: String,
    /// The image that it is made from.
    pub(crate) from: Option<String>,
    /// The components that it needs.
    pub(crate) needs: Vec<String>,
}

/// Makes the component, and says what is next.
pub(crate) fn run(options: &NewOptions, ctx: &CommandContext) -> Result<String, CommandError> {
    let name = &options.name;
    image_reference::check_name(name).map_err(|error| {
        Problems::from(Problem::of_request(format!("'{name}' is not a valid image name: {error}")))
    })?;
    let config = Config::read(&ctx.root, options.reading.facts.clone())?;
    let mut problems = Vec::new();
    if let Some(from) = &options.from
        && let Err(error) = image_reference::check(from)
    {
        problems.push(Problem::of_request(format!("--from: '{from}' is no image: {error}")));
    }
    // It may have nothing in it yet, and what is wrong with the rest is no matter here.
    let workspace = Workspace::read(&ctx.root, &options.reading, &mut Vec::new());
    for needed in &options.needs {
        if workspace.depended_on(needed).is_none() {
            let names: Vec<&str> = workspace.components.iter().map(|it| it.name.as_str()).collect();
            let hint = did_you_mean(needed, names);
            problems.push(Problem::of_request(format!("--needs: no component '{needed}'{hint}")));
        }
    }
    let is_default = !config.has_definitions();
    let folder = if is_default { Some(join(SRC, name)) } else { config.folder_for(name) };
    if folder.is_none() {
        let patterns: Vec<&str> = config.written_patterns().collect();
        let message = format!(
            "finds no image '{name}' in a folder of its own: its patterns are {}. Make a folder \
             that one of them finds, or add a table [image.\"{{image}}\"] with dockerfile = \
             \"{{image}}/Dockerfile\"",
            patterns.join(", ")
        );
        problems.push(Problem::of_file(CONFIG_FILE, message));
    }
    Problems::check(problems)?;
    let folder = folder.unwrap_or_default();
    let dockerfile = if is_default {
        format!("{folder}/{BUILD}/{name}.dockerfile")
    } else {
        format!("{folder}/Dockerfile")
    };
    let mut files = vec![
        (dockerfile.clone(), text(options)),
        (format!("{folder}/app/{name}.txt"), format!("This is {name}.\n")),
    ];
    if !options.needs.is_empty() {
        files.push((format!("{folder}/{BUILD}/component.dep"), options.needs.join("\n") + "\n"));
    }
    for (path, text) in &files {
        write_new(&ctx.root, path, text)?;
    }
    let written: Vec<String> =
        files.into_iter().map(|(path, _)| format!("wrote {path}\n")).collect();
    Ok(format!("{}next: {} build {name}\n", written.concat(), program::name()))
}

/// The Dockerfile.
fn text(options: &NewOptions) -> String {
    let from = options.from.as_deref().unwrap_or("scratch");
    let mut text = format!("FROM {from}\nCOPY app /app\n");
    for needed in &options.needs {
        text.push_str(&format!("COPY dependency/{needed}/ /{needed}/\n"));
    }
    text
}

/// Writes a file that does not exist.
fn write_new(root: &Path, path: &str, text: &str) -> Result<(), Problems> {
    let full = root.join(path);
    let write = || {
        if let Some(folder) = full.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::File::create_new(&full)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::AlreadyExists => "exists: choose another name".to_owned(),
            _ => format!("cannot be written: {error}"),
        };
        Problem::of_file(path, message).into()
    })
}
