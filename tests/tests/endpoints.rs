//! Where the engine is: sockets, ports, TLS and ssh, by variables and by Docker's contexts, and
//! what is said where nobody can connect.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use expect_test::{Expect, expect};
use tests::Workspace;
use tests::detour::{Answer, Detour};
use tests::sshd::Sshd;
use tests::tls::TlsEngine;

fn workspace() -> Workspace {
    Workspace::new().image("a", "FROM scratch\nCOPY f /\n").file("src/a/f", "1")
}

fn fails(workspace: &Workspace, error: &Expect) {
    let output = workspace.xtask(&["build"]).exits_with(1);
    error.assert_eq(output.error());
}

#[test]
fn an_address_that_leads_nowhere_is_told_from_one_that_is_none() {
    let at = |host: &str| workspace().env("DOCKER_HOST", host);
    fails(
        &at("localhost:2375"),
        &expect![[r#"
        error: the engine's address 'localhost:2375' has no scheme: write tcp://localhost:2375
    "#]],
    );
    fails(
        &at("/run/docker.sock"),
        &expect![[r#"
        error: the engine's address '/run/docker.sock' has no scheme: write unix:///run/docker.sock
    "#]],
    );
    fails(
        &at("fd://"),
        &expect![[r#"
        error: the engine's address 'fd://' is for the engine itself: write the one of its socket, unix:///var/run/docker.sock
    "#]],
    );
    fails(
        &at("npipe:////./pipe/docker_engine"),
        &expect![[r#"
        error: the engine's address 'npipe:////./pipe/docker_engine' is a named pipe, which is not supported: use the engine inside WSL
    "#]],
    );
    fails(
        &at("htp://x"),
        &expect![[r#"
        error: the engine's address 'htp://x' has the unknown scheme 'htp': there are unix, tcp, http, https and ssh
    "#]],
    );
    fails(
        &at("ssh://me:secret@far"),
        &expect![[r#"
        error: the engine's address 'ssh://me:…@far' has a password: use a key in an SSH agent
    "#]],
    );
    fails(
        &at("tcp://127.0.0.1:1"),
        &expect![[r#"
        error: cannot connect to the engine at tcp://127.0.0.1:1: Connection refused (os error 111). Start Docker, or point DOCKER_HOST or the Docker context at a running engine
    "#]],
    );
}

#[test]
fn a_socket_of_others_is_said_to_be_theirs() {
    let workspace = workspace();
    let socket = workspace.root().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    // The folder is of this user alone, and root may do everything.
    fs::set_permissions(workspace.root(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
    let other_user = "cp $XTASK xtask-copy; [ $(id -u) = 0 ] && as='setpriv --reuid 65534 --regid 65534 --clear-groups'; \
                      HOME=/ DOCKER_HOST=unix://$PWD/socket ${as-} ./xtask-copy build";
    let output = workspace.run(&mut workspace.bash(other_user)).finish().exits_with(1);
    let error = output.error();
    assert!(error.contains("permission denied on the engine's socket "), "{error}");
    assert!(error.contains("/socket: run this as the user that it belongs to\n"), "{error}");
}

/// A build goes over the connection, with a session.
fn builds(workspace: &Workspace) {
    let doctor = workspace.xtask(&["doctor"]).exits_with(0);
    assert!(doctor.stdout.contains("BuildKit, with a session"), "{}", doctor.stdout);
    let built = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(built.built(), ["a"], "{}", built.stderr);
    let again = workspace.xtask(&["build"]).exits_with(0);
    assert!(again.built().is_empty(), "{}", again.stderr);
    let secret = ["build", "-f", "--secret", "id=x,src=src/a/f"];
    let _ = workspace.xtask(&secret).exits_with(0);
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn an_engine_behind_tls_is_reached_with_the_right_certificates() {
    let engine = TlsEngine::start();
    let with = |certificates: &str| {
        workspace()
            .replace(&engine.host(), "[HOST]")
            .replace(path(&engine.certificates("")), "[CERTIFICATES]/")
            .env("DOCKER_HOST", &engine.host())
            .env("DOCKER_CERT_PATH", path(&engine.certificates(certificates)))
    };
    let verified = |certificates: &str| with(certificates).env("DOCKER_TLS_VERIFY", "1");
    builds(&verified("client"));
    builds(&with("client").env("DOCKER_TLS", "1"));
    fails(
        &verified("anonymous"),
        &expect![[r#"
        error: cannot connect to the engine at [HOST]: it wants a client certificate: [CERTIFICATES]/anonymous has no cert.pem and key.pem
    "#]],
    );
    fails(
        &verified("none"),
        &expect![[r#"
        error: cannot connect to the engine at [HOST]: its certificate is not signed by a CA that this machine knows, and [CERTIFICATES]/none has no ca.pem
    "#]],
    );
    fails(
        &verified("stranger"),
        &expect![[r#"
        error: cannot connect to the engine at [HOST]: its certificate is not signed by the CA in [CERTIFICATES]/stranger/ca.pem
    "#]],
    );
    fails(
        &with("stranger").env("DOCKER_TLS", "1"),
        &expect![[r#"
        error: cannot connect to the engine at [HOST]: it does not know the CA of [CERTIFICATES]/stranger/cert.pem
    "#]],
    );
    let broken = engine.certificates("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("ca.pem"), "no certificate").unwrap();
    fails(
        &verified("broken"),
        &expect![[r#"
        error: cannot use the engine at [HOST]: [CERTIFICATES]/broken/ca.pem: has no certificate of a CA
    "#]],
    );
}

#[test]
fn tls_where_there_is_none_is_said() {
    let engine = tests::far::Far::start(None);
    let workspace = workspace()
        .replace(engine.host(), "[HOST]")
        .env("DOCKER_HOST", engine.host())
        .env("DOCKER_TLS", "1")
        .env("DOCKER_CERT_PATH", "/nowhere");
    fails(
        &workspace,
        &expect![[r#"
        error: cannot connect to the engine at [HOST]: it does not speak TLS: unset DOCKER_TLS_VERIFY and DOCKER_TLS
    "#]],
    );
    // As an engine with TLS answers plain HTTP.
    let text = "{\"message\": \"Client sent an HTTP request to an HTTPS server.\"}";
    let detour = Detour::start("/_ping", Answer::Whole("400 Bad Request", text.to_owned()));
    let workspace =
        self::workspace().replace(&detour.host(), "[HOST]").env("DOCKER_HOST", &detour.host());
    fails(
        &workspace,
        &expect![[r#"
        error: the engine at [HOST] is behind TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem
    "#]],
    );
}

#[test]
fn an_engine_without_buildkit_is_told_of_once() {
    let version = "{\"Version\": \"5.4.2\", \"ApiVersion\": \"1.41\", \"Os\": \"linux\", \
                   \"Components\": [{\"Name\": \"Podman Engine\", \"Version\": \"5.4.2\"}]}";
    let detour = Detour::start("/version", Answer::Whole("200 OK", version.to_owned()));
    let workspace = workspace().image("b", "FROM tt-a\n").env("DOCKER_HOST", &detour.host());
    let output = workspace.xtask(&["build"]).exits_with(0);
    let warning = "warning: images are built with the classic builder: Podman has no BuildKit\n";
    assert_eq!(output.stderr.matches(warning).count(), 1, "{}", output.stderr);
    assert_eq!(output.built(), ["a", "b"], "{}", output.stderr);
    let chosen = workspace.xtask(&["build", "-f", "--builder", "classic"]).exits_with(0);
    assert!(!chosen.stderr.contains("warning: "), "{}", chosen.stderr);
}

/// A context of Docker's, in the folder that `DOCKER_CONFIG` names.
fn context(workspace: Workspace, endpoint: &str, certificates: Option<&Path>) -> Workspace {
    let meta = format!("{{\"Name\": \"far\", \"Endpoints\": {{\"docker\": {endpoint}}}}}");
    workspace.write("config/contexts/meta/0123/meta.json", &meta);
    workspace.write("config/config.json", "{\"currentContext\": \"far\"}");
    if let Some(certificates) = certificates {
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            let text = fs::read_to_string(certificates.join(file)).unwrap();
            workspace.write(&format!("config/contexts/tls/0123/docker/{file}"), &text);
        }
    }
    let config = workspace.root().join("config").display().to_string();
    // An empty address is none.
    workspace.env("DOCKER_CONFIG", &config).env("DOCKER_HOST", "")
}

#[test]
fn a_context_has_its_own_certificates() {
    let engine = TlsEngine::start();
    let endpoint =
        |skip: bool| format!("{{\"Host\": \"{}\", \"SkipTLSVerify\": {skip}}}", engine.host());
    let client = engine.certificates("client");
    builds(&context(workspace(), &endpoint(false), Some(&client)));
    builds(&context(workspace(), &endpoint(true), Some(&client)));
    let stranger = engine.certificates("stranger");
    let wrong = context(workspace(), &endpoint(false), Some(&stranger));
    let wrong = wrong.xtask(&["build"]).exits_with(1);
    assert!(wrong.error().contains("is not signed by the CA in "), "{}", wrong.error());
}

/// An `ssh` that runs the command on this machine, or says what ssh would say.
fn with_ssh(script: &str) -> Workspace {
    let workspace = workspace().script("bin/ssh", script);
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", workspace.root().join("bin").display());
    workspace.env("PATH", &path).env("DOCKER_HOST", "ssh://me@far:2222")
}

#[test]
fn an_engine_behind_ssh_is_reached_as_the_docker_cli_does() {
    let workspace = with_ssh(
        "#!/bin/sh\necho \"$@\" >> ssh.log\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n\
         unset DOCKER_HOST\nexec \"$@\"\n",
    );
    builds(&workspace);
    let log = fs::read_to_string(workspace.root().join("ssh.log")).unwrap();
    let expected = "-T -o ConnectTimeout=30 -o BatchMode=yes -l me -p 2222 -- far docker system \
                    dial-stdio";
    assert!(log.lines().all(|line| line == expected), "{log}");
}

/// With the `ssh` of a folder, before all others.
fn with_client(sshd: &Sshd, is_stranger: bool) -> Workspace {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", sshd.client(is_stranger).display());
    workspace().env("PATH", &path).env("DOCKER_HOST", &sshd.host())
}

#[test]
fn an_engine_behind_sshd_is_reached_with_the_right_key() {
    let sshd = Sshd::start();
    builds(&with_client(&sshd, false));
    let refused = with_client(&sshd, true).xtask(&["build"]).exits_with(1);
    let refused = refused.error();
    assert!(refused.contains("Permission denied (publickey"), "{refused}");
    assert!(refused.contains(&format!("cannot connect to the engine at {}", sshd.host())));
}

#[test]
fn what_ssh_says_is_passed_on() {
    let workspace =
        with_ssh("#!/bin/sh\necho 'me@far: Permission denied (publickey).' >&2\nexit 255\n");
    fails(
        &workspace,
        &expect![[r#"
        error: cannot connect to the engine at ssh://me@far:2222: me@far: Permission denied (publickey). Try: ssh far docker version
    "#]],
    );
    let workspace = self::workspace().env("DOCKER_HOST", "ssh://far").env("PATH", "/nowhere");
    fails(
        &workspace,
        &expect![[r#"
        error: cannot connect to the engine at ssh://far: cannot run ssh: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn jobs_follow_the_cpus_of_the_engines_machine() {
    let way = Detour::start("/info", Answer::Whole("200 OK", "{\"NCPU\":7}".to_owned()));
    let workspace =
        Workspace::new().env("DOCKER_HOST", &way.host()).image("a", "FROM scratch\nLABEL x=1\n");
    let output = workspace.xtask(&["build", "--progress", "json"]).exits_with(0);
    assert!(output.stdout.contains("\"jobs\":9}"), "{}", output.stdout);
}
