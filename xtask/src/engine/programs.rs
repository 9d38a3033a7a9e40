//! Which programs this machine has, and what starts or installs an engine here.

use std::env;
use std::path::Path;

use rustix::process::geteuid;

/// Where engines are, which is not on every user's `PATH`.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Package managers with their commands, and their names of Docker's engine.
const PACKAGES: [(&str, &str, &str); 6] = [
    ("apt-get", "apt-get install", "docker.io"),
    ("dnf", "dnf install", "moby-engine"),
    ("zypper", "zypper install", "docker"),
    ("pacman", "pacman -S", "docker"),
    ("apk", "apk add", "docker"),
    ("emerge", "emerge", "app-containers/docker"),
];

/// Whether a program is on the `PATH`.
pub(super) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// How to get an engine that listens at the default socket, as a sentence without its end.
pub(super) fn how_to_get_an_engine() -> String {
    let has_docker = is_installed("dockerd")
        || SYSTEM_FOLDERS.iter().any(|folder| Path::new(folder).join("dockerd").is_file());
    let sudo = if geteuid().is_root() { "" } else { "sudo " };
    if has_docker {
        let has_systemd = Path::new("/run/systemd/system").exists();
        let start = if has_systemd { "systemctl start docker" } else { "service docker start" };
        return format!("Start Docker with '{sudo}{start}'");
    }
    let found = PACKAGES.iter().find(|(program, ..)| is_installed(program));
    found.map_or_else(
        || "Install Docker (https://docs.docker.com/engine/install/) or Podman".to_owned(),
        |(_, install, docker)| {
            format!(
                "Neither Docker nor Podman is installed: run '{sudo}{install} {docker}' or \
                 '{sudo}{install} podman'"
            )
        },
    )
}
