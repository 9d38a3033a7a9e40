//! A second engine, that of `OTHER_DOCKER_HOST`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::engine::{archive_tree, docker};
use crate::output::Output;
use crate::workspace::Workspace;

/// Nothing of the test stays in it.
#[derive(Debug)]
pub struct OtherEngine {
    host: String,
    prefix: String,
}

impl OtherEngine {
    /// The one for the images of a workspace.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn of(workspace: &Workspace) -> Self {
        let host = std::env::var("OTHER_DOCKER_HOST").expect("the host of another engine");
        Self { host, prefix: workspace.own("tt-") }
    }

    /// Runs the docker CLI there and gives what it wrote.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.host]).args(arguments).output();
        String::from_utf8_lossy(&output.expect("docker runs").stdout).into_owned()
    }

    /// Whether it is Podman.
    pub fn is_podman(&self) -> bool {
        self.docker(&["version", "--format", "{{json .Server.Components}}"]).contains("Podman")
    }

    /// Pulls an image.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn pull(&self, reference: &str) {
        let pulled = Command::new("docker").args(["-H", &self.host, "pull", reference]).output();
        let pulled = pulled.expect("docker runs");
        assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    }

    /// Runs the binary with this engine.
    pub fn xtask(&self, workspace: &Workspace, arguments: &[&str]) -> Output {
        let variables = [("DOCKER_HOST".to_owned(), self.host.clone())].into();
        workspace.xtask_with(&variables, arguments)
    }

    /// Takes an image from the first engine by way of a file.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn load(&self, image: &str) {
        let image = docker(&["save", image]);
        let mut load = Command::new("docker");
        load.args(["-H", &self.host, "load"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = load.spawn().expect("docker runs");
        child.stdin.take().expect("a pipe").write_all(&image).expect("docker reads");
        assert!(child.wait().expect("docker ends").success());
    }

    /// Takes an image from the first engine by way of a registry, so that its layers are the same
    /// bytes there.
    pub fn take(&self, image: &str, registry: &str) {
        let reference = format!("{registry}/{image}");
        docker(&["tag", image, &reference]);
        docker(&["push", &reference]);
        docker(&["rmi", &reference]);
        self.pull(&reference);
        for call in [&["tag", &reference, image][..], &["rmi", &reference]] {
            let _ = self.docker(call);
        }
    }

    /// The files in an image there, as [`crate::engine::image_files`] gives them.
    ///
    /// # Panics
    ///
    /// If the image is not there.
    pub fn files(&self, image: &str) -> BTreeMap<String, String> {
        let container = self.docker(&["create", image, "true"]).trim().to_owned();
        let mut export = Command::new("docker");
        export.args(["-H", &self.host, "export", &container]);
        let archive = export.output().expect("docker runs").stdout;
        let _ = self.docker(&["rm", &container]);
        archive_tree(&archive)
    }

    /// Removes the workspace's images.
    pub fn remove_all(&self) {
        let all = self.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        for name in all.lines().filter(|name| name.contains(&self.prefix)) {
            let _ = self.docker(&["rmi", "-f", name]);
        }
    }
}

impl Drop for OtherEngine {
    fn drop(&mut self) {
        self.remove_all();
    }
}
