//! The engine that the tests use, behind a real `sshd` on loopback.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::engine::engine_socket;
use crate::workspace::wait_until;
use crate::{library, tool};

/// It listens until it is dropped, and lets one key in.
#[derive(Debug)]
pub struct Sshd {
    process: Child,
    port: u16,
    dir: TempDir,
}

impl Sshd {
    /// Makes the keys, and starts to listen.
    ///
    /// # Panics
    ///
    /// If OpenSSH is not there, or there is no free port.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| dir.path().join(name);
        for name in ["host", "key", "stranger"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file(name));
            assert!(keygen.status().expect("ssh-keygen runs").success());
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let path = env::var("PATH").expect("a path");
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             StrictModes no\nPidFile none\nMaxStartups 100\n\
             SetEnv DOCKER_HOST=unix://{} PATH={path}\n",
            file("host").display(),
            file("key.pub").display(),
            engine_socket().display(),
        );
        fs::write(file("sshd_config"), config).expect("a file");
        let process = sshd(dir.path()).spawn().expect("sshd starts");
        wait_until("sshd", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, port, dir }
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        let user = output("id", &["-un"]);
        format!("ssh://{}@127.0.0.1:{}", user.trim(), self.port)
    }

    /// A folder for `PATH` with an `ssh` that has the key, or one of a stranger.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn client(&self, is_stranger: bool) -> PathBuf {
        let folder = self.dir.path().join(if is_stranger { "strangers" } else { "bin" });
        fs::create_dir_all(&folder).expect("a folder");
        let key = self.dir.path().join(if is_stranger { "stranger" } else { "key" });
        let ssh = output("sh", &["-c", "command -v ssh"]);
        let script = format!(
            "#!/bin/sh\nexec {} -F none -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} \
             -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR \"$@\"\n",
            ssh.trim(),
            key.display(),
            self.dir.path().join("known_hosts").display(),
        );
        let file = folder.join("ssh");
        fs::write(&file, script).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
        folder
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Where it is not installed there is no user for it, which it wants: it is made to believe so.
fn sshd(dir: &Path) -> Command {
    let program = tool("usr/sbin/sshd");
    let wrapper = library("libnss_wrapper.so");
    let libraries = wrapper.parent().expect("a folder");
    let users = output("getent", &["passwd"]) + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n";
    fs::write(dir.join("passwd"), users).expect("a file");
    // As root it wants this folder, too.
    drop(fs::create_dir("/run/sshd"));
    let mut sshd = Command::new(program);
    sshd.args(["-D", "-e", "-f"]).arg(dir.join("sshd_config"));
    sshd.env("LD_LIBRARY_PATH", libraries).env("LD_PRELOAD", &wrapper);
    sshd.env("NSS_WRAPPER_PASSWD", dir.join("passwd")).env("NSS_WRAPPER_GROUP", "/etc/group");
    sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sshd
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
