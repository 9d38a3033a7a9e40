//! The engine as the docker CLI sees it: the oracle of the tests.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::tool;

const APPLETS: [&str; 12] =
    ["sh", "cat", "sleep", "ls", "cp", "mkdir", "touch", "chmod", "ln", "echo", "test", "env"];

/// Runs the docker CLI and gives what it wrote.
///
/// # Panics
///
/// If it fails.
pub fn docker(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {errors}");
    output.stdout
}

/// Whether the engine holds an image.
pub fn has_image(name: &str) -> bool {
    let mut inspect = Command::new("docker");
    inspect.args(["image", "inspect", name]).stdout(Stdio::null()).stderr(Stdio::null());
    inspect.status().is_ok_and(|status| status.success())
}

/// Removes an image with all its names, so that nothing of it can be restored.
///
/// # Panics
///
/// If there is none.
pub fn remove_image(name: &str) {
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", name]);
    docker(&["rmi", "-f", String::from_utf8_lossy(&id).trim()]);
}

/// Makes a base image of a static busybox, with these variables.
pub(crate) fn import_busybox(name: &str, variables: &str) {
    let mut archive = tar::Builder::new(Vec::new());
    let busybox = fs::read(tool("bin/busybox")).expect("busybox");
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    archive.append_data(&mut header, "bin/busybox", &busybox[..]).expect("an entry");
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        let path = format!("bin/{applet}");
        archive.append_link(&mut header, path, "/bin/busybox").expect("an entry");
    }
    import(archive, name, variables);
}

/// Makes a base image with one file in it.
pub fn import_file(name: &str, path: &str, text: &str) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, path, text.as_bytes()).expect("an entry");
    import(archive, name, "PATH=/bin");
}

fn import(archive: tar::Builder<Vec<u8>>, name: &str, variables: &str) {
    let bytes = archive.into_inner().expect("an archive");
    let variables = format!("ENV {variables}");
    let import = ["import", "-c", &variables, "-", name];
    let mut docker = Command::new("docker");
    docker.args(import).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = docker.spawn().expect("docker runs");
    child.stdin.take().expect("a pipe").write_all(&bytes).expect("docker reads");
    assert!(child.wait().expect("docker ends").success());
}

/// Whether the engine keeps images in containerd: then several platforms and attestations can be
/// had, and images without a name cannot.
pub fn has_containerd_store() -> bool {
    static STORE: OnceLock<bool> = OnceLock::new();
    *STORE.get_or_init(|| {
        let status = docker(&["info", "--format", "{{json .DriverStatus}}"]);
        String::from_utf8_lossy(&status).contains("io.containerd.snapshotter.v1")
    })
}

/// The first number of the engine's version.
///
/// # Panics
///
/// If it is none.
pub fn major_version() -> u32 {
    static VERSION: OnceLock<u32> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let version = docker(&["version", "--format", "{{.Server.Version}}"]);
        let version = String::from_utf8(version).expect("UTF-8");
        version.split('.').next().and_then(|it| it.parse().ok()).expect("a version")
    })
}

/// Whether the engine is Podman.
pub fn is_podman() -> bool {
    static IS_PODMAN: OnceLock<bool> = OnceLock::new();
    *IS_PODMAN.get_or_init(|| {
        let components = docker(&["version", "--format", "{{json .Server.Components}}"]);
        String::from_utf8_lossy(&components).contains("Podman")
    })
}

/// The engine's own builders, as `--builder` names them.
pub fn builders() -> &'static [&'static str] {
    if is_podman() { &["classic"] } else { &["buildkit", "classic"] }
}

/// Removes every image whose name holds a test's prefix.
pub(crate) fn remove_images_with(prefix: &str) {
    let mut docker = Command::new("docker");
    docker.args(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut output = docker.output().expect("docker runs");
    for _ in 0..4 {
        // The containerd store loses an image that another test removes at that moment.
        if output.status.success() {
            break;
        }
        output = docker.output().expect("docker runs");
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "images are listed: {errors}");
    let list = String::from_utf8_lossy(&output.stdout);
    remove_images(list.lines().filter(|name| name.contains(prefix)));
}

/// Removes images by their names or ids, as far as they are there.
pub(crate) fn remove_images<'n>(images: impl IntoIterator<Item = &'n str>) {
    let images: Vec<&str> = images.into_iter().collect();
    if !images.is_empty() {
        let mut remove = Command::new("docker");
        remove.args(["rmi", "-f"]).args(images).stdout(Stdio::null()).stderr(Stdio::null());
        drop(remove.status());
    }
}

/// Builds with the docker CLI: what the tool must agree with.
///
/// # Panics
///
/// If it fails.
pub fn cli_build(context: &Path, dockerfile: &str, name: &str, arguments: &[&str]) {
    let output = cli_output(context, dockerfile, name, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The same, whatever comes of it.
pub fn cli_output(context: &Path, dockerfile: &str, name: &str, arguments: &[&str]) -> Output {
    let mut docker = Command::new("docker");
    docker.current_dir(context).env("DOCKER_BUILDKIT", "0");
    docker.args(["build", "-q", "-t", name, "-f", dockerfile]).args(arguments).arg(".");
    output_of_classic_build(&mut docker)
}

/// Runs a build by the classic builder, which loses a cached image that another test removes at
/// that moment: then it is run again.
///
/// # Panics
///
/// If docker cannot be run.
pub fn output_of_classic_build(docker: &mut Command) -> Output {
    let mut output = docker.output().expect("docker runs");
    for _ in 0..9 {
        let errors = String::from_utf8_lossy(&output.stderr);
        let lost = ["unable to find image \"sha256:", "layer not known"];
        if output.status.success() || !lost.iter().any(|it| errors.contains(it)) {
            break;
        }
        output = docker.output().expect("docker runs");
    }
    output
}

/// The same with BuildKit, by a CLI that has it.
///
/// # Panics
///
/// If it fails.
pub fn cli_build_with_buildkit(
    cli: &Path,
    context: &Path,
    dockerfile: &str,
    name: &str,
    arguments: &[&str],
) {
    let mut docker = Command::new(cli);
    docker.current_dir(context).env("DOCKER_BUILDKIT", "1");
    docker.args(["build", "-q", "-t", name, "-f", dockerfile]).args(arguments).arg(".");
    let output = docker.output().expect("docker runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The first docker CLI of `PATH` that builds with BuildKit: not every one has the plugin
/// that this takes since 23.
pub fn cli_with_buildkit() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&path).map(|folder| folder.join("docker"));
    found.find(|docker| {
        let mut help = Command::new(docker);
        help.args(["build", "--help"]).env("DOCKER_BUILDKIT", "1").stderr(Stdio::null());
        let help = help.output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&help).contains("--output")
    })
}

/// Everything in an image: path, kind and mode, then contents or link target.
pub fn image_tree(name: &str) -> BTreeMap<String, String> {
    let container = docker(&["create", name, "/none"]);
    let container = String::from_utf8_lossy(&container).trim().to_owned();
    let exported = docker(&["export", &container]);
    docker(&["rm", "-f", &container]);
    archive_tree(&exported)
}

/// What is in an image as by [`image_tree`], but for the programs of the box, in `bin/`.
pub fn image_files(name: &str) -> BTreeMap<String, String> {
    let mut files = image_tree(name);
    files.retain(|path, _| !path.starts_with("bin/"));
    files
}

/// Everything in a tar archive, in the same way.
///
/// # Panics
///
/// If it is none.
pub fn archive_tree(archive: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let path = path.trim_end_matches('/').to_owned();
        let header = entry.header().clone();
        let target = entry.link_name().expect("a target").map(|link| link.display().to_string());
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).expect("contents");
        let text = format!(
            "{:?} {:o} {}:{} {:?} {}",
            header.entry_type(),
            header.mode().expect("a mode") & 0o7777,
            header.uid().expect("an owner"),
            header.gid().expect("a group"),
            target,
            String::from_utf8_lossy(&contents)
        );
        found.insert(path, text);
    }
    found
}

/// What an image says of how it is run.
pub fn image_config(name: &str) -> BTreeMap<String, Value> {
    const KEYS: [&str; 10] = [
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "User",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "Healthcheck",
        "Shell",
    ];
    let inspected = docker(&["image", "inspect", "--format", "{{json .Config}}", name]);
    let config: Value = serde_json::from_slice(&inspected).expect("JSON");
    let value = |key: &str| config.get(key).cloned().unwrap_or(Value::Null);
    let mut found: BTreeMap<_, _> =
        KEYS.iter().map(|key| ((*key).to_owned(), value(key))).collect();
    // BuildKit writes the folder that the classic builder leaves out.
    if matches!(found["WorkingDir"].as_str(), None | Some("")) {
        found.insert("WorkingDir".to_owned(), "/".into());
    }
    let mut labels = value("Labels");
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|label, _| !label.starts_with("org.openpai.build."));
    }
    let is_empty = labels.as_object().is_none_or(serde_json::Map::is_empty);
    found.insert("Labels".to_owned(), if is_empty { Value::Null } else { labels });
    found
}

/// A second way to the engine, which can be cut and tells when builds began.
#[derive(Debug)]
pub struct Proxy {
    dir: TempDir,
    open: Arc<Mutex<Vec<UnixStream>>>,
    builds: Mutex<Receiver<Instant>>,
    gate: Arc<Gate>,
    is_halting: Arc<AtomicBool>,
}

/// What contexts pass through on their way.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Proxy {
    /// Leads to the engine that the tests use.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let open = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&open);
        let gate = Arc::new(Gate::default());
        let passed = Arc::clone(&gate);
        let is_halting = Arc::new(AtomicBool::new(false));
        let halts = Arc::clone(&is_halting);
        let (began, builds) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = UnixStream::connect(engine_socket()).expect("the engine");
                for (from, to) in [(&client, &engine), (&engine, &client)] {
                    let (from, to, began) = (copy_of(from), copy_of(to), began.clone());
                    let (gate, halts) = (Arc::clone(&passed), Arc::clone(&halts));
                    shared.lock().expect("no panic").push(copy_of(&from));
                    thread::spawn(move || pass_on(from, to, &began, &gate, &halts));
                }
            }
        });
        Self { dir, open, builds: Mutex::new(builds), gate, is_halting }
    }

    /// Lets no more than the beginning of a context pass, until [`Proxy::release`].
    pub fn hold(&self) {
        *self.gate.is_shut.lock().expect("no panic") = true;
    }

    /// Lets contexts pass again.
    pub fn release(&self) {
        *self.gate.is_shut.lock().expect("no panic") = false;
        self.gate.opened.notify_all();
    }

    /// From now on makes a little halt before the end of each line.
    pub fn halt_at_ends(&self) {
        self.is_halting.store(true, Ordering::Relaxed);
    }

    /// When the next build was asked for that was not told yet; none if that takes longer
    /// than a minute.
    pub fn next_build(&self) -> Option<Instant> {
        self.builds.lock().expect("no panic").recv_timeout(Duration::from_mins(1)).ok()
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }

    /// Cuts what is open, as an engine does that ends.
    pub fn cut(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// Copies what is said to the other side, and tells when that is a request for a build.
/// Of what brings a context, only the beginning passes a gate that is shut.
fn pass_on(
    mut from: UnixStream,
    mut to: UnixStream,
    began: &Sender<Instant>,
    gate: &Gate,
    is_halting: &AtomicBool,
) {
    let mut buffer = vec![0; 1 << 16];
    let mut brings_context = false;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let said = &buffer[..read];
        let line = said.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let asks = |what: &[u8]| {
            line.starts_with(b"POST ") && line.windows(what.len()).any(|part| part == what)
        };
        if brings_context {
            let is_shut = gate.is_shut.lock().expect("no panic");
            drop(gate.opened.wait_while(is_shut, |is_shut| *is_shut).expect("no panic"));
        }
        if asks(b"/build?") {
            let _ = began.send(Instant::now());
        }
        brings_context |= asks(b"/build?") || asks(b"/session");
        let passed = if is_halting.load(Ordering::Relaxed) {
            said.chunk_by(|_, next| *next != b'\r').try_for_each(|part| {
                thread::sleep(Duration::from_millis(1));
                to.write_all(part)
            })
        } else {
            to.write_all(said)
        };
        if passed.is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

/// The socket of the engine that the tests use.
pub fn engine_socket() -> PathBuf {
    let host = env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").into()
}

fn copy_of(stream: &UnixStream) -> UnixStream {
    stream.try_clone().expect("a descriptor")
}
