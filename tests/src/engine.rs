//! The engine as the docker CLI sees it: the oracle of the tests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

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

/// Makes a base image of a static busybox.
pub(crate) fn import_busybox(name: &str) {
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
    import(archive, name);
}

/// Makes a base image with one file in it.
pub fn import_file(name: &str, path: &str, text: &str) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, path, text.as_bytes()).expect("an entry");
    import(archive, name);
}

fn import(archive: tar::Builder<Vec<u8>>, name: &str) {
    let bytes = archive.into_inner().expect("an archive");
    let import = ["import", "-c", "ENV PATH=/bin", "-", name];
    let mut docker = Command::new("docker");
    docker.args(import).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = docker.spawn().expect("docker runs");
    child.stdin.take().expect("a pipe").write_all(&bytes).expect("docker reads");
    assert!(child.wait().expect("docker ends").success());
}

/// Removes every image whose name holds a test's prefix.
pub(crate) fn remove_images_with(prefix: &str) {
    let list = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let list = String::from_utf8_lossy(&list);
    let own: Vec<&str> = list.lines().filter(|name| name.contains(prefix)).collect();
    if !own.is_empty() {
        let mut remove = Command::new("docker");
        remove.args(["rmi", "-f"]).args(own).stdout(Stdio::null()).stderr(Stdio::null());
        drop(remove.status());
    }
}

/// Builds with the docker CLI: what the tool must agree with.
pub fn cli_build(context: &Path, dockerfile: &str, name: &str, arguments: &[&str]) {
    let mut docker = Command::new("docker");
    docker.current_dir(context).env("DOCKER_BUILDKIT", "0");
    docker.args(["build", "-q", "-t", name, "-f", dockerfile]).args(arguments).arg(".");
    let output = docker.output().expect("docker runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything in an image: path, kind and mode, then contents or link target.
pub fn image_tree(name: &str) -> BTreeMap<String, String> {
    let container = docker(&["create", name, "/none"]);
    let container = String::from_utf8_lossy(&container).trim().to_owned();
    let exported = docker(&["export", &container]);
    docker(&["rm", "-f", &container]);
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(&exported[..]).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let header = entry.header().clone();
        let target = entry.link_name().expect("a target").map(|link| link.display().to_string());
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).expect("contents");
        let text = format!(
            "{:?} {:o} {}:{} {:?} {}",
            header.entry_type(),
            header.mode().expect("a mode"),
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

/// A second way to the engine that can be cut.
#[derive(Debug)]
pub struct Proxy {
    dir: TempDir,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    /// Leads to the engine's default socket.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let open = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = UnixStream::connect("/var/run/docker.sock").expect("the engine");
                for (from, to) in [(&client, &engine), (&engine, &client)] {
                    let (mut from, mut to) = (copy_of(from), copy_of(to));
                    shared.lock().expect("no panic").push(copy_of(&from));
                    thread::spawn(move || {
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(Shutdown::Write));
                    });
                }
            }
        });
        Self { dir, open }
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

fn copy_of(stream: &UnixStream) -> UnixStream {
    stream.try_clone().expect("a descriptor")
}
