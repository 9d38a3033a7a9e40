//! An engine that plays one: it holds images in memory and understands as much of
//! a Dockerfile as the tests write. What it makes of a context is exact, which is
//! what builds are compared by.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use xtask::core::config::RegistryConfig;
use xtask::core::fingerprint::LABEL;
use xtask::core::holdings::{Held, Holdings};
use xtask::effects::engine::{BuildRequest, Engine, EngineError, FoundImage, Logins};
use xtask::event::Events;

/// What is in an image: by path a file, folder or link; by label its value.
pub type Contents = BTreeMap<String, String>;

/// An engine in memory; its clones are the same engine.
#[derive(Clone, Debug, Default)]
pub struct ScriptedEngine {
    images: Rc<RefCell<Vec<Image>>>,
    count: Rc<Cell<usize>>,
    builds_left: Rc<Cell<Option<usize>>>,
    delay: Rc<Cell<Duration>>,
    needless: Rc<RefCell<Vec<String>>>,
}

#[derive(Clone, Debug, Default)]
struct Image {
    id: String,
    names: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    contents: Contents,
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

    /// The images that were built though they were there, built from just the same.
    pub fn needless(&self) -> Vec<String> {
        self.needless.borrow().clone()
    }

    /// Forgets the images without a name.
    pub fn prune(&self) {
        self.images.borrow_mut().retain(|image| !image.names.is_empty());
    }

    /// What is in the image of a name.
    pub fn contents(&self, name: &str) -> Option<Contents> {
        self.find(name).map(|image| image.contents)
    }

    /// Puts an image there that is made from nothing.
    pub fn import(&self, name: &str, contents: Contents) {
        self.add(name, BTreeMap::new(), contents);
    }

    /// Takes a name away.
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

    /// Puts an image that is made from another one, and has its labels, in its place.
    pub fn derive(&self, name: &str) {
        let Some(mut image) = self.find(name) else { return };
        image.contents.insert("derived".to_owned(), String::new());
        self.add(name, image.labels, image.contents);
    }

    fn find(&self, reference: &str) -> Option<Image> {
        let name = reference.strip_suffix(":latest").unwrap_or(reference);
        let images = self.images.borrow();
        images.iter().find(|image| image.names.contains(name) || image.id == reference).cloned()
    }

    fn add(&self, name: &str, labels: BTreeMap<String, String>, contents: Contents) -> String {
        self.untag(name);
        self.count.set(self.count.get() + 1);
        let id = format!("sha256:{:064x}", self.count.get());
        let names = [name.to_owned()].into();
        let image = Image { id: id.clone(), names, labels, contents };
        self.images.borrow_mut().push(image);
        id
    }

    /// Runs a Dockerfile; one instruction that it does not know is an error.
    fn make(&self, request: &BuildRequest<'_>) -> Result<String, String> {
        let mut archive = Vec::new();
        xtask::core::archive::write(&request.context, &mut archive)
            .map_err(|error| error.to_string())?;
        let context = unpack(&archive);
        let dockerfile = context.get(request.dockerfile).ok_or("no Dockerfile")?;
        let (_, text) = dockerfile.split_once('\n').ok_or("no text")?;
        let mut image = Image::default();
        let mut args = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match *line.split(' ').collect::<Vec<_>>() {
                ["FROM", "scratch"] => {}
                ["FROM", base] => image = self.find(base).ok_or(format!("no base {base}"))?,
                ["ARG", arg] => {
                    let (name, value) = arg.split_once('=').ok_or("an ARG without a value")?;
                    let given = request.build_args.get(name).map_or(value, String::as_str);
                    args.insert(format!("${name}"), given.to_owned());
                }
                ["LABEL", label] => {
                    let (name, value) = label.split_once('=').ok_or("a LABEL without a value")?;
                    let value = args.get(value).map_or(value, String::as_str);
                    image.contents.insert(format!("label {name}"), value.to_owned());
                }
                ["COPY", from, path, to] => {
                    let from = from.strip_prefix("--from=").ok_or("COPY of two files")?;
                    let other = self.find(from).ok_or(format!("no image {from}"))?;
                    copy(&other.contents, path.trim_matches('/'), to, &mut image.contents);
                }
                ["COPY", ".", to] => copy(&context, "", to, &mut image.contents),
                _ => return Err(format!("unknown instruction: {line}")),
            }
        }
        let ours = request.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        image.labels.extend(ours);
        let fingerprint = |image: &Image| image.labels.get(LABEL).cloned();
        let is_there = self.find(request.image).is_some_and(|before| {
            fingerprint(&before).is_some() && fingerprint(&before) == fingerprint(&image)
        });
        if is_there {
            self.needless.borrow_mut().push(request.image.to_owned());
        }
        Ok(self.add(request.image, image.labels, image.contents))
    }
}

impl Engine for ScriptedEngine {
    async fn holdings(&self) -> Result<Holdings, EngineError> {
        let mut holdings = Holdings::complete();
        for image in self.images.borrow().iter() {
            if let Some(held) = held(image) {
                holdings.add(image.names.iter().map(|name| format!("{name}:latest")), &held);
            }
        }
        Ok(holdings)
    }

    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, EngineError> {
        Ok(self.find(reference).map(|image| FoundImage {
            held: held(&image),
            id: image.id,
            has_triggers: false,
            variables: Vec::new(),
            labels: image.labels.clone(),
            layers: Vec::new(),
        }))
    }

    async fn history(&self, _: &str) -> Result<Vec<String>, EngineError> {
        Ok(Vec::new())
    }

    async fn tag(&self, image: &str, repository: &str, _: &str) -> Result<(), EngineError> {
        self.retag(image, repository);
        Ok(())
    }

    async fn pull(&self, reference: &str, _: Option<&str>, _: &Logins) -> Result<(), EngineError> {
        Err(EngineError::Refused(format!("no registry has {reference}")))
    }

    async fn credentials(&self, _: Vec<String>, _: Option<&RegistryConfig>) -> Logins {
        Logins::new()
    }

    async fn cpus(&self) -> Result<usize, EngineError> {
        Ok(2)
    }

    async fn build(&self, request: BuildRequest<'_>, _: &Events) -> Result<String, EngineError> {
        tokio::time::sleep(self.delay.get()).await;
        match self.builds_left.get() {
            Some(0) => return Err(EngineError::Lost("as the test wanted".to_owned())),
            Some(left) => self.builds_left.set(Some(left - 1)),
            None => {}
        }
        self.make(&request).map_err(EngineError::Refused)
    }
}

fn held(image: &Image) -> Option<Held> {
    Held::from_labels(image.id.clone(), |label| image.labels.get(label).cloned())
}

/// By path: what it is, and from the second line on what is in it.
fn unpack(archive: &[u8]) -> Contents {
    let mut found = Contents::new();
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        let header = entry.header();
        let target = entry.link_name().expect("a target").map(|link| link.display().to_string());
        let mode = header.mode().expect("a mode");
        let what = format!("{:?} {mode:o} {target:?}\n{text}", header.entry_type());
        found.insert(path.trim_end_matches('/').to_owned(), what);
    }
    found
}

fn copy(from: &Contents, path: &str, to: &str, into: &mut Contents) {
    for (name, what) in from {
        let below = if path.is_empty() { Some(name.as_str()) } else { name.strip_prefix(path) };
        if let Some(rest) = below {
            let to = to.trim_matches('/');
            into.insert(format!("{to}/{}", rest.trim_matches('/')), what.clone());
        }
    }
}
