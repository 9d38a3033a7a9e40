//! An engine in memory that understands as much of a Dockerfile as the model writes, and
//! keeps images as real engines do: an image that is made from another one inherits its
//! labels, layers and history, and one that loses its name stays.
//!
//! It takes from the tool where the files of a context lie, and reads them itself; what is
//! not what the tool digested fails the build, as it does on the way to a real engine.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use xtask::engine::{BuildRequest, Built, Engine, EngineError, FoundImage, Logins};
use xtask::event_channel::Events;
use xtask_core::context::build_context::ContextEntry;
use xtask_core::staleness::engine_images::{EngineImages, TrackedImage};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::model::{Node, with_parents};
use crate::reference::{Contents, copy};

/// How long a build goes on after the name of its base was taken.
const AFTER_TAKING: Duration = Duration::from_millis(500);

/// An engine in memory; its clones are the same engine.
#[derive(Clone, Debug, Default)]
pub struct ScriptedEngine {
    images: Rc<RefCell<Vec<Image>>>,
    count: Rc<Cell<usize>>,
    builds_left: Rc<Cell<Option<usize>>>,
    delay: Rc<Cell<Duration>>,
    needless: Rc<RefCell<Vec<String>>>,
    /// What is to happen before the next build of an image: which image gets which name.
    before_builds: Rc<RefCell<BTreeMap<String, (String, String)>>>,
}

#[derive(Clone, Debug, Default)]
struct Image {
    id: String,
    names: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    /// Unique ids, the base's first.
    layers: Vec<String>,
    /// What made it, as BuildKit words it, the base's first.
    history: Vec<String>,
    contents: Contents,
    /// Its whole context and Dockerfile, its args and the images that it was made from.
    made_from: BTreeMap<String, String>,
}

impl ScriptedEngine {
    /// Lets so many more builds succeed, then loses the connection; none for ever.
    pub fn fail_after(&self, builds: Option<usize>) {
        self.builds_left.set(builds);
    }

    /// Lets every build take that long.
    pub fn take(&self, delay: Duration) {
        self.delay.set(delay);
    }

    /// Gives the image of the name `from` the name `to` when `image` is built next, just
    /// before.
    pub fn retag_before_build_of(&self, image: &str, from: &str, to: &str) {
        let names = (from.to_owned(), to.to_owned());
        self.before_builds.borrow_mut().insert(image.to_owned(), names);
    }

    /// Drops what was to happen before builds.
    pub fn disarm(&self) {
        self.before_builds.borrow_mut().clear();
    }

    /// The images that were built although their names had an image made from just the same.
    pub fn needless(&self) -> Vec<String> {
        self.needless.borrow().clone()
    }

    /// Removes the images without a name.
    pub fn prune(&self) {
        self.images.borrow_mut().retain(|image| !image.names.is_empty());
    }

    /// What is in the image of a name.
    pub fn contents(&self, name: &str) -> Option<Contents> {
        self.find(name).map(|image| image.contents)
    }

    /// The id that each name stands for.
    pub fn names(&self) -> BTreeMap<String, String> {
        let images = self.images.borrow();
        let named = images.iter().flat_map(|image| image.names.iter().map(|it| (it, &image.id)));
        named.map(|(name, id)| (name.clone(), id.clone())).collect()
    }

    /// Puts an image there that is made from nothing.
    pub fn import(&self, name: &str, contents: Contents) {
        let mut image = Image { contents, ..Image::default() };
        self.add_layer(&mut image, "");
        self.add(name, image);
    }

    /// Takes a name away; the image stays.
    pub fn untag(&self, name: &str) {
        for image in self.images.borrow_mut().iter_mut() {
            image.names.remove(name);
        }
    }

    /// Gives the image of one name another one.
    pub fn retag(&self, from: &str, to: &str) {
        let Some(found) = self.find(from) else { return };
        self.untag(to);
        let mut images = self.images.borrow_mut();
        let image = images.iter_mut().find(|image| image.id == found.id);
        image.expect("it was found").names.insert(to.to_owned());
    }

    /// Builds an image `FROM` another one, under the same name or another one.
    pub fn derive(&self, from: &str, name: &str) {
        let Some(mut image) = self.find(from) else { return };
        image.contents.insert("derived".to_owned(), String::new());
        self.add_layer(&mut image, "COPY Dockerfile /derived # buildkit");
        self.add(name, image);
    }

    /// Commits a container of an image, with a label, under the same name or another one.
    pub fn commit(&self, from: &str, name: &str) {
        let Some(mut image) = self.find(from) else { return };
        image.contents.insert("label committed".to_owned(), "yes".to_owned());
        image.labels.insert("committed".to_owned(), "yes".to_owned());
        self.add_layer(&mut image, "/none");
        self.add(name, image);
    }

    fn find(&self, reference: &str) -> Option<Image> {
        let name = reference.strip_suffix(":latest").unwrap_or(reference);
        let images = self.images.borrow();
        images.iter().find(|image| image.names.contains(name) || image.id == reference).cloned()
    }

    fn next_id(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("sha256:{:064x}", self.count.get())
    }

    fn add_layer(&self, image: &mut Image, by: &str) {
        image.layers.push(self.next_id());
        image.history.push(by.to_owned());
    }

    fn add(&self, name: &str, image: Image) -> String {
        self.untag(name);
        let (id, names) = (self.next_id(), [name.to_owned()].into());
        self.images.borrow_mut().push(Image { id: id.clone(), names, ..image });
        id
    }

    /// Runs a Dockerfile; an instruction that it does not know is an error.
    fn make(
        &self,
        request: &BuildRequest<'_>,
        (context, dockerfile): (Contents, String),
    ) -> Result<String, String> {
        let mut image = Image::default();
        let mut args = BTreeMap::new();
        let mut made_from = context.clone();
        made_from.insert("Dockerfile".to_owned(), dockerfile.clone());
        for line in dockerfile.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match *line.split(' ').collect::<Vec<_>>() {
                ["FROM", "scratch"] => {}
                ["FROM", base] => {
                    image = self.find(base).ok_or(format!("no base {base}"))?;
                    made_from.insert(line.to_owned(), image.id.clone());
                }
                ["ARG", arg] => {
                    let (name, value) = arg.split_once('=').ok_or("an ARG without a value")?;
                    let given = request.build_args.get(name).map_or(value, String::as_str);
                    args.insert(format!("${name}"), given.to_owned());
                    made_from.insert(line.to_owned(), given.to_owned());
                    image.history.push(line.to_owned());
                }
                ["LABEL", label] => {
                    let (name, value) = label.split_once('=').ok_or("a LABEL without a value")?;
                    let value = args.get(value).map_or(value, String::as_str);
                    image.contents.insert(format!("label {name}"), value.to_owned());
                    image.labels.insert(name.to_owned(), value.to_owned());
                    image.history.push(format!("LABEL {name}={value}"));
                }
                ["COPY", from, path, to] => {
                    let from = from.strip_prefix("--from=").ok_or("COPY of two files")?;
                    let other = self.find(from).ok_or(format!("no image {from}"))?;
                    made_from.insert(line.to_owned(), other.id);
                    let (source, target) = (path.trim_matches('/'), to.trim_matches('/'));
                    copy(&other.contents, source, target, &mut image.contents);
                    self.add_layer(&mut image, &format!("COPY {path} {to} # buildkit"));
                }
                ["COPY", source, to] => {
                    if source != "." && !context.contains_key(source) {
                        return Err(format!("{source} is not in the context"));
                    }
                    copy(&context, source, to.trim_matches('/'), &mut image.contents);
                    self.add_layer(&mut image, &format!("COPY {source} {to} # buildkit"));
                }
                _ => return Err(format!("unknown instruction: {line}")),
            }
        }
        let ours = request.labels.clone();
        image.labels.extend(ours);
        image.made_from = made_from;
        let before = self.find(request.image);
        // The same can come of a Dockerfile that is edited between its reading and its build.
        let is_same =
            |before: &Image| before.made_from == image.made_from && before.labels == image.labels;
        if before.as_ref().is_some_and(is_same) {
            self.needless.borrow_mut().push(format!("{}: {:?}", request.image, image.labels));
        }
        Ok(self.add(request.image, image))
    }
}

impl Engine for ScriptedEngine {
    async fn engine_images(&self) -> Result<EngineImages, EngineError> {
        let mut engine_images = EngineImages::complete();
        // As real engines list them: the newest first.
        for image in self.images.borrow().iter().rev() {
            if let Some(held) = held(image) {
                engine_images.add(image.names.iter().map(|name| format!("{name}:latest")), &held);
            }
        }
        Ok(engine_images)
    }

    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, EngineError> {
        Ok(self.find(reference).map(|image| FoundImage {
            held: held(&image),
            id: image.id,
            has_onbuild: false,
            triggers: Vec::new(),
            variables: Vec::new(),
            labels: image.labels,
            contents: image.layers.join(" "),
            layers: image.layers,
            platform: String::new(),
            created: None,
            digests: Vec::new(),
        }))
    }

    async fn history(&self, id: &str) -> Result<Vec<String>, EngineError> {
        Ok(self.find(id).map(|image| image.history).unwrap_or_default())
    }

    async fn tag(&self, image: &str, repository: &str, _: &str) -> Result<(), EngineError> {
        if self.find(image).is_none() {
            return Err(EngineError::Refused(format!("no such image: {image}")));
        }
        self.retag(image, repository);
        Ok(())
    }

    async fn pull(
        &self,
        _: &str,
        reference: &str,
        _: Option<&str>,
        _: &Logins,
    ) -> Result<(), EngineError> {
        Err(EngineError::Refused(format!("no registry has {reference}")))
    }

    async fn credentials(&self, _: Vec<String>, _: Option<&RegistryConfig>) -> Logins {
        Logins::new()
    }

    async fn cpus(&self) -> Result<usize, EngineError> {
        Ok(2)
    }

    async fn build(&self, request: BuildRequest<'_>, _: &Events) -> Result<Built, EngineError> {
        let sent = read_context(&request).map_err(EngineError::Context)?;
        tokio::time::sleep(self.delay.get()).await;
        match self.builds_left.get() {
            Some(0) => return Err(EngineError::Lost("as the test wanted".to_owned())),
            Some(left) => self.builds_left.set(Some(left - 1)),
            None => {}
        }
        let taken = self.before_builds.borrow_mut().remove(request.image);
        if let Some((from, to)) = &taken {
            self.retag(from, to);
        }
        let id = self.make(&request, sent).map_err(EngineError::Refused)?;
        // It takes a while, in which another build may put the name right.
        if taken.is_some() {
            tokio::time::sleep(AFTER_TAKING).await;
        }
        Ok(Built { id, bases: BTreeSet::new() })
    }
}

fn held(image: &Image) -> Option<TrackedImage> {
    TrackedImage::from_labels(image.id.clone(), |label| image.labels.get(label).cloned())
}

/// What instructions can see, and the text of the Dockerfile.
fn read_context(request: &BuildRequest<'_>) -> Result<(Contents, String), String> {
    let mut tree = BTreeMap::new();
    let mut dockerfile = None;
    for item in request.context.items() {
        let (path, source) = (item.path().display().to_string(), item.part.source_path(item.entry));
        let node = read(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        if !is_as_digested(&node, &item) {
            return Err(format!("{path} changed while it was sent"));
        }
        if let Node::File(text, _) = &node
            && path == request.dockerfile
        {
            dockerfile = Some(text.clone());
        }
        if !item.is_ignored {
            tree.insert(path, node);
        }
    }
    let dockerfile = dockerfile.ok_or("no Dockerfile")?;
    let context = with_parents(tree).into_iter().map(|(path, it)| (path, it.in_image()));
    Ok((context.collect(), dockerfile))
}

/// Whether it is still what the tool saw: a build is sent that, or fails.
fn is_as_digested(node: &Node, item: &ContextEntry<'_>) -> bool {
    let has_mode = |mode: &u32| mode & !0o022 == item.entry.mode & !0o022;
    match node {
        Node::File(text, mode) => has_mode(mode) && blake3::hash(text.as_bytes()) == item.digest,
        Node::Folder(mode) => has_mode(mode),
        Node::Link(_) => true,
    }
}

fn read(path: &Path) -> std::io::Result<Node> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    Ok(if metadata.is_dir() {
        Node::Folder(mode)
    } else if metadata.is_symlink() {
        Node::Link(fs::read_link(path)?.display().to_string())
    } else {
        Node::File(fs::read_to_string(path)?, mode)
    })
}
