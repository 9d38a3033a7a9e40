//! `config`: what holds for each image after all, and where it comes from.

use xtask_core::dockerfile::platform_args::is_predefined;
use xtask_core::name_pattern::select;
use xtask_core::problem::{Problem, Problems, did_you_mean};
use xtask_core::secret::{hide, may_be_secret};
use xtask_core::workspace::components::{Component, Image, WorkspaceOptions};
use xtask_core::workspace::config::named_context::NamedContext;
use xtask_core::workspace::config::origin::Origin;

use crate::build::prepare::read_workspace;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;

#[derive(Clone, Debug)]
pub(crate) struct ConfigOptions {
    pub(crate) reading: WorkspaceOptions,
    /// The images to show, as names or globs; all if empty.
    pub(crate) images: Vec<String>,
}

/// What holds for an image.
#[derive(Debug)]
pub(crate) struct ImageConfig {
    pub(crate) image: String,
    pub(crate) component: String,
    pub(crate) settings: Vec<Setting>,
}

/// A value, and where it comes from.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    /// None if it may be a secret.
    pub(crate) value: Option<String>,
    pub(crate) source: Origin,
}

/// Works out what holds, without an engine.
pub(crate) fn run(
    options: &ConfigOptions,
    ctx: &CommandContext,
) -> Result<Vec<ImageConfig>, CommandError> {
    let registry = options.reading.registry()?;
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &ctx.events)?;
    Problems::check(graph.problems(&workspace, &workspace.components.ids().collect()))?;
    let known: Vec<&str> = workspace.images().map(|(_, image)| image.name.as_str()).collect();
    let (mut named, mut problems) = (Vec::new(), Vec::new());
    for word in &options.images {
        match select(word, &known, "image") {
            Ok(found) if found.is_empty() => {
                let hint = did_you_mean(word, known.iter().copied());
                problems.push(Problem::of_request(format!("no image '{word}'{hint}")));
            }
            Ok(found) => named.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    Problems::check(problems)?;
    let is_named = |image: &Image| named.is_empty() || named.contains(&image.name.as_str());
    let shown = workspace.images().filter(|(_, image)| is_named(image));
    let mut shown: Vec<ImageConfig> =
        shown.map(|(id, image)| describe(&workspace.components[id], image, options)).collect();
    // The only word of a reference that is known before a push.
    if let Some(registry) = workspace.config.registries.first() {
        for setting in shown.iter_mut().flat_map(|image| &mut image.settings) {
            if setting.key == "tags" {
                setting.value = setting.value.take().map(|it| it.replace("{registry}", registry));
            }
        }
    }
    Ok(shown)
}

fn describe(component: &Component, image: &Image, options: &ConfigOptions) -> ImageConfig {
    let given = &image.settings;
    let mut settings = Vec::new();
    let mut add = |key: &str, value: &str, at: Option<Origin>| {
        let source = at.unwrap_or(Origin::Default);
        settings.push(Setting { key: key.to_owned(), value: Some(hide(value)), source });
    };
    add("dockerfile", &image.dockerfile, None);
    let context = if image.context.is_empty() { "." } else { &image.context };
    add("context", context, given.context.as_ref().map(|context| context.at));
    for (key, text) in [("target", &given.target), ("network", &given.network)] {
        if let Some(text) = text {
            add(key, &text.value, Some(text.at));
        }
    }
    for (key, map) in [("labels", &given.labels), ("extra-hosts", &given.extra_hosts)] {
        for (name, text) in map {
            add(&format!("{key}.{name}"), &text.value, Some(text.at));
        }
    }
    for (name, context) in &given.contexts {
        let text = match &context.value {
            NamedContext::Image(reference) => format!("docker-image://{reference}"),
            NamedContext::Target(image) => format!("target:{image}"),
            NamedContext::Url(url) => url.clone(),
            NamedContext::Folder(folder) if folder.is_empty() => ".".to_owned(),
            NamedContext::Folder(folder) => folder.clone(),
        };
        add(&format!("contexts.{name}"), &text, Some(context.at));
    }
    for (key, list) in [
        ("platforms", &given.platforms),
        ("secrets", &given.secrets),
        ("ssh", &given.ssh),
        ("cache-from", &given.cache_from),
        ("cache-to", &given.cache_to),
        ("no-cache-filter", &given.no_cache_filter),
        ("attest", &given.attest),
        ("depends-on", &given.depends_on),
        ("inputs", &given.inputs),
        ("tags", &given.push_references(&image.name)),
    ] {
        for text in list {
            add(key, &text.value, Some(text.at));
        }
    }
    let hooks = [
        ("pre-build", &component.pre_hook, &given.pre_build),
        ("post-build", &component.post_hook, &given.post_build),
    ];
    for (key, hook, given) in hooks {
        if let Some(hook) = hook {
            add(key, &hook.to_string(), given.as_ref().map(|given| given.at));
        }
    }
    // Others are for other images.
    let counts = |name: &String| image.args.contains(name) || is_predefined(name);
    for (name, value) in image.build_args.iter().filter(|(name, _)| counts(name)) {
        let source = match given.args.get(name) {
            Some(arg) if !options.reading.build_args.contains_key(name) => arg.at,
            _ => Origin::Option("--build-arg"),
        };
        let value = (!may_be_secret(name)).then(|| hide(value));
        settings.push(Setting { key: format!("args.{name}"), value, source });
    }
    ImageConfig { image: image.name.clone(), component: component.name.clone(), settings }
}
