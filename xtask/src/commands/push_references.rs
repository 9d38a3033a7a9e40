//! Where images are pushed to: the references that `xtask.toml` says, or else the image's name in
//! the registry with the tag.
//!
//! A registry comes from `xtask.toml` or from `services-configuration.yaml`, and not from both,
//! unless they agree. What is missing is said before anything is pushed.

use std::collections::BTreeMap;
use std::path::Path;

use xtask_core::image_reference;
use xtask_core::paths::CONFIG_FILE;
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Image;
use xtask_core::workspace::config::Config;
use xtask_core::workspace::config::settings::PUSH_WORDS;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::engine::PushRequest;
use crate::system::git;

/// What references are made of.
pub(crate) struct PushReferences<'a> {
    root: &'a Path,
    registry: Option<String>,
    tag: Result<String, Problem>,
}

impl<'a> PushReferences<'a> {
    /// `given` is the tag of the command line, or of the environment; `advice` says how a command
    /// is given one.
    ///
    /// # Errors
    /// There is no registry, there are two, or the tag is none.
    pub(crate) fn new(
        root: &'a Path,
        config: &Config,
        configured: Option<&RegistryConfig>,
        given: Option<&str>,
        advice: &str,
    ) -> Result<Self, Problem> {
        let prefix = configured.map(RegistryConfig::prefix);
        let registry = match (config.registries.first(), prefix) {
            (Some(first), Some(prefix)) if !config.registries.contains(&prefix) => {
                let message = format!(
                    "'registry' is {first} ({}), and -c says {prefix}: leave out one of the two",
                    config.registry_origin()
                );
                return Err(Problem::of_request(message));
            }
            (Some(first), None) => Some(first.clone()),
            (_, prefix) => prefix,
        };
        Ok(Self { root, registry, tag: tag(given, configured, advice) })
    }

    /// Checks what can be checked before there is an image.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        self.tag.as_ref().map(drop).map_err(Problem::clone)
    }

    /// The requests to push an image, one for each reference.
    pub(crate) fn of(&self, image: &Image) -> Result<Vec<PushRequest>, Problem> {
        let references = image.settings.push_references(&image.name).into_iter();
        references.map(|reference| self.request(image, &reference.value)).collect()
    }

    /// The request for a reference of the command line, which may have `{image}` in it.
    pub(crate) fn given(&self, image: &Image, reference: &str) -> Result<PushRequest, Problem> {
        self.request(image, &reference.replace("{image}", &image.name))
    }

    fn request(&self, image: &Image, reference: &str) -> Result<PushRequest, Problem> {
        let text = self.fill_in(image, reference)?;
        image_reference::check(&text).map_err(|error| {
            let message = format!("'{text}', to which '{}' is pushed: {error}", image.name);
            Problem::of_request(message)
        })?;
        let (repository, tag) = image_reference::repository_and_tag(&text);
        let (repository, tag) = (repository.to_owned(), tag.to_owned());
        Ok(PushRequest { image: image.name.clone(), repository, tag })
    }

    /// Puts the words in that only a push knows.
    fn fill_in(&self, image: &Image, reference: &str) -> Result<String, Problem> {
        let mut text = reference.to_owned();
        for word in PUSH_WORDS {
            let braced = format!("{{{word}}}");
            if text.contains(&braced) {
                text = text.replace(&braced, &self.value(image, word)?);
            }
        }
        Ok(text)
    }

    fn value(&self, image: &Image, word: &str) -> Result<String, Problem> {
        match word {
            "registry" => self.registry.clone().ok_or_else(|| {
                Problem::of_request(format!(
                    "no registry to push to: set 'registry' in {CONFIG_FILE}, or pass -c with the \
                     folder of services-configuration.yaml"
                ))
            }),
            "tag" => self.tag.clone(),
            _ => self.revision(image, word),
        }
    }

    /// The commit or the branch that is checked out.
    fn revision(&self, image: &Image, word: &str) -> Result<String, Problem> {
        let found = match word {
            "commit" => {
                git::head(self.root).map(|id| id.map(|id| id[..id.len().min(12)].to_owned()))
            }
            // Branches have slashes, and tags have none.
            _ => git::branch(self.root).map(|branch| branch.map(|branch| as_tag(&branch))),
        };
        let why = match found {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "none is checked out".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("'{}' is pushed with the {word}, but {why}", image.name);
        Err(Problem::of_request(message))
    }
}

/// Leaves out what is asked for twice. That two images would have one reference is a problem.
pub(crate) fn distinct(found: Vec<PushRequest>, problems: &mut Vec<Problem>) -> Vec<PushRequest> {
    let (mut requests, mut images) = (Vec::new(), BTreeMap::<String, String>::new());
    for request in found {
        let reference = request.reference();
        match images.get(&reference) {
            Some(one) if *one != request.image => {
                let two = &request.image;
                let message = format!(
                    "images '{one}' and '{two}' cannot both be {reference}: write {{image}} where \
                     they differ, or select one"
                );
                problems.push(Problem::of_request(message));
            }
            Some(_) => {}
            None => {
                images.insert(reference, request.image.clone());
                requests.push(request);
            }
        }
    }
    requests
}

/// A text as a part of a tag.
fn as_tag(text: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().map(|c| if is_kept(c) { c } else { '-' }).collect()
}

/// The tag to push images with.
fn tag(
    given: Option<&str>,
    configured: Option<&RegistryConfig>,
    advice: &str,
) -> Result<String, Problem> {
    match (given, configured) {
        (Some(tag), _) if image_reference::is_tag(tag) => Ok(tag.to_owned()),
        (Some(tag), _) => Err(Problem::of_request(format!(
            "'{tag}' is not a valid tag: use at most 128 letters, digits, '_', '.' and '-'"
        ))),
        (None, Some(configured)) => configured.tag.clone().ok_or_else(|| {
            let message = format!("{} is missing: set it, or {advice}", configured.origin);
            Problem::of_request(message)
        }),
        (None, None) => Err(Problem::of_request(format!("no tag to push with: {advice}"))),
    }
}
