//! What is said to the engine and to registries: every wait for them is announced and ends
//! at the first Ctrl-C, answers need no more memory than they are worth, a push is tried
//! again where that may help, and Docker's own configuration holds.

use std::fs;
use std::path::Path;
use std::process::Command;

use expect_test::expect;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tests::detour::Piece;
use tests::engine::{docker, has_containerd_store, image_config, image_files, major_version};
use tests::registry::{Refusing, Registry};
use tests::{Answer, Detour, Workspace, wait_until};

const BASE: &str = "FROM scratch\nCOPY build /build\n";

/// A stale image, and one whose hook leaves something to clean up.
fn workspace() -> Workspace {
    Workspace::new()
        .image("a", BASE)
        .image("b", "FROM scratch\nCOPY generated /\n")
        .script("src/b/build/build-pre.sh", "#!/bin/sh\nmkdir -p src/b/generated\n")
}

fn begun(text: &str) -> Answer {
    Answer::Begun(vec![Piece::Text(text.to_owned())])
}

/// Runs a command where the engine answers such a request in such a way, and presses Ctrl-C
/// as soon as it is said that something is waited for.
fn hangs_until_interrupted(request: &str, answer: Answer, command: &[&str], said: &str) {
    let detour = Detour::start(request, answer);
    let workspace = workspace().env("DOCKER_HOST", &detour.host());
    let before = workspace.tree();
    let mut running = workspace.start(command);
    running.wait_for(&format!("waiting: for the engine at {} to {said}", detour.host()));
    running.interrupt();
    let output = running.finish().exits_with(130);
    assert!(!output.stderr.contains("failed to build"), "{request}: {}", output.stderr);
    assert_eq!(workspace.tree(), before, "{request}");
}

#[test]
fn an_engine_that_accepts_and_never_answers_is_waited_for_until_ctrl_c() {
    let build = &["build", "--jobs", "4"][..];
    let begins = "start building image 'tt-";
    let mut cases = vec![
        ("/_ping", Answer::Never, build, "respond"),
        ("/version", begun("{\"Version\":"), build, "respond"),
        ("/images/", Answer::Never, build, "respond"),
        ("/images/", begun("["), build, "respond"),
        ("/session", Answer::Never, build, begins),
        ("/build?", Answer::Never, build, begins),
        ("/build?", Answer::Begun(Vec::new()), build, begins),
        ("/_ping", Answer::Never, &["watch"], "respond"),
        ("/build?", Answer::Never, &["watch"], begins),
        ("/images/", Answer::Never, &["graph", "--stale"], "respond"),
    ];
    if major_version() < 28 {
        // Its store decides which builder is used.
        cases.push(("/info", Answer::Never, build, "respond"));
    }
    std::thread::scope(|scope| {
        for (request, answer, command, said) in cases {
            scope.spawn(move || hangs_until_interrupted(request, answer, command, said));
        }
    });
}

#[test]
fn the_classic_builder_and_the_other_commands_wait_in_the_same_way() {
    let classic = &["build", "--builder", "classic"][..];
    let cases: [(&str, &[&str], &str); 4] = [
        ("/build?", classic, "start building image 'tt-"),
        ("/images/", &["build", "-n"], "respond"),
        ("/_ping", &["context", "b", "--hooks"], "respond"),
        ("/_ping", &["watch", "--no-initial"], "respond"),
    ];
    std::thread::scope(|scope| {
        for (request, command, said) in cases {
            scope.spawn(move || hangs_until_interrupted(request, Answer::Never, command, said));
        }
    });
}

#[test]
fn a_push_that_stops_halfway_is_waited_for_until_ctrl_c() {
    let registry = Registry::start();
    let workspace = Workspace::new().image("a", BASE).pushing_to(registry.address());
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let answers = [Answer::Never, begun("{\"status\":\"Pushing\"}\n"), begun("{\"status\":\"Pu")];
    for answer in answers {
        let detour = Detour::start("/push?", answer);
        let host = [("DOCKER_HOST".to_owned(), detour.host())].into();
        let mut running = workspace.start_with(&host, &["push", "-c", "."]);
        running
            .wait_for(&format!("waiting: for the engine to push {}/ns/tt-a", registry.address()));
        running.interrupt();
        let _ = running.finish().exits_with(130);
    }
}

#[test]
fn a_line_of_60_mb_does_not_hide_why_a_push_failed() {
    let pieces = vec![
        Piece::Text("{\"status\":\"".to_owned()),
        Piece::Letters(60_000_000),
        Piece::Text("\"}\n{\"errorDetail\":{\"message\":\"denied: no\"}}\n".to_owned()),
    ];
    let detour = Detour::start("/push?", Answer::Begun(pieces));
    let workspace = Workspace::new().image("a", BASE).pushing_to("127.0.0.1:1");
    let workspace = workspace.env("DOCKER_HOST", &detour.host());
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["push", "-c", "."]).exits_with(1);
    assert!(output.stderr.contains("v1: denied: no\n"), "{}", output.stderr);
}

#[test]
fn a_program_that_hangs_while_files_are_read_does_not_hold_up_ctrl_c() {
    let workspace = Workspace::new()
        .image("a", BASE)
        .file("src/a/generated/x", "")
        .git()
        .script("bin/git", "#!/bin/sh\necho $$ > target/git\nexec sleep 900\n");
    fs::create_dir_all(workspace.root().join("target")).unwrap();
    let path = format!("{}/bin:{}", workspace.root().display(), std::env::var("PATH").unwrap());
    let mut running = workspace.start_with(&[("PATH".to_owned(), path)].into(), &["build"]);
    let file = workspace.root().join("target/git");
    wait_until("git", || fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')));
    running.wait_for("waiting: for the workspace's files to be read, and for git");
    running.interrupt();
    let output = running.finish();
    kill(&file);
    let _ = output.exits_with(130);
}

/// Ends the process whose id is in a file.
fn kill(file: &Path) {
    let id = fs::read_to_string(file).unwrap();
    assert!(Command::new("kill").arg(id.trim()).status().unwrap().success());
}

#[test]
fn a_line_of_60_mb_costs_neither_memory_nor_the_lines_after_it() {
    let pieces = vec![
        Piece::Text("{\"stream\":\"".to_owned()),
        Piece::Letters(60_000_000),
        Piece::Text("\"}\n{\"stream\":\"short\\n\"}\r\n".to_owned()),
        Piece::Text("{\"stream\":\"".to_owned()),
        Piece::Letters(1_000_000),
        Piece::Text("\\nlast\\n\"}\n".to_owned()),
    ];
    let detour = Detour::start("/build?", Answer::Begun(pieces));
    let workspace = Workspace::new().image("a", BASE).env("DOCKER_HOST", &detour.host());
    let mut running = workspace.start(&["build", "--builder", "classic"]);
    running.wait_for("| (a line of 60000013 bytes from the engine is omitted)");
    running.wait_for("| short");
    running.wait_for("xxx … (934464 more bytes)");
    running.wait_for("| last");
    let status = fs::read_to_string(format!("/proc/{}/status", running.process())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kilobytes: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kilobytes < 60_000, "{kilobytes} kB");
    running.interrupt();
    let _ = running.finish().exits_with(130);
}

#[test]
fn a_long_line_of_an_instruction_is_cut() {
    let dockerfile = "FROM tt-box\nRUN i=0; while [ $i -lt 3000 ]; do echo -n \
                      0123456789012345678901234567890123456789; i=$((i+1)); done; echo; echo end\n";
    let workspace = Workspace::new().with_box().image("a", dockerfile);
    for builder in ["classic", "buildkit"] {
        let arguments = ["build", "--builder", builder, "--no-cache"];
        let output = workspace.xtask(&arguments).exits_with(0);
        let cut = "… (54464 more bytes)";
        assert_eq!(output.stderr.matches(cut).count(), 1, "{builder}: {}", output.stderr);
        assert!(output.stderr.contains("| end"), "{builder}");
    }
}

#[test]
fn what_an_engine_answers_in_place_of_a_build_is_said() {
    let said = |status, body: &str, answer: &str| {
        let detour = Detour::start("/build?", Answer::Whole(status, body.to_owned()));
        let workspace = Workspace::new().image("a", BASE).env("DOCKER_HOST", &detour.host());
        let output = workspace.xtask(&["build"]).exits_with(1);
        assert!(output.stderr.contains(answer), "{answer}: {}", output.stderr);
    };
    said("500 Internal Server Error", r#"{"message":"out of luck"}"#, "build: out of luck");
    said("502 Bad Gateway", "<html>no</html>", "build: <html>no</html>");
    said(
        "403 Forbidden",
        "",
        "build: the engine responded with status 403 Forbidden and no error message",
    );
    let invalid = "build: the engine sent an invalid response: ";
    said("200 OK", "", &format!("{invalid}it has no image ID"));
    said("200 OK", "<html>", &format!("{invalid}expected value at line 1"));
    let error = r#"{"errorDetail":{"message":"not today"},"error":"not today"}"#;
    said("200 OK", error, "build: not today");
}

#[test]
fn an_image_that_an_engine_only_says_it_built_is_an_error_and_never_up_to_date() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY f /\n").file("src/a/f", "1");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let earlier = String::from_utf8(docker(&["inspect", "-f", "{{.Id}}", &workspace.own("tt-a")]));
    let earlier = earlier.expect("an ID").trim().to_owned();
    workspace.write("src/a/f", "2");
    for id in [format!("sha256:{}", "0".repeat(64)), earlier] {
        let body = format!("{{\"id\":\"moby.image.id\",\"aux\":{{\"ID\":\"{id}\"}}}}\r\n");
        let detour = Detour::start("/build?", Answer::Whole("200 OK", body));
        let lying = [("DOCKER_HOST".to_owned(), detour.host())].into();
        let output = workspace.xtask_with(&lying, &["build"]).exits_with(1);
        let message = "reported image 'tt-a' as built, but has no image [DIGEST]";
        assert!(output.stderr.contains(message), "{}", output.stderr);
        let planned = workspace.xtask(&["build", "-n"]).exits_with(0);
        assert!(planned.stdout.contains("stale"), "{}", planned.stdout);
    }
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), ["a"]);
    assert!(image_files(&workspace.own("tt-a"))["f"].ends_with(" 2"));
    assert!(workspace.xtask(&["build"]).exits_with(0).built().is_empty());
}

/// Whether a push to a registry that answers so is tried again.
fn is_tried_again(workspace: &Workspace, status: Option<&'static str>, body: &'static str) -> bool {
    let registry = Refusing::start(status, body);
    let config = format!(
        "cluster:\n  docker-registry:\n    domain: {}\n    namespace: eof\n    tag: v1\n",
        registry.address
    );
    workspace.write("config/services-configuration.yaml", &config);
    let push = ["push", "-c", "config", "--retry-for", "1"];
    let output = workspace.xtask(&push).exits_with(1);
    output.stderr.contains("trying again in")
}

#[test]
fn a_push_is_tried_again_by_status_and_kind_whatever_the_words() {
    let workspace = Workspace::new().image("timeout", BASE);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let limit = Some("429 Too Many Requests");
    let mut again = vec![
        (limit, "<?xml version=\"1.0\"?><Error>denied</Error>"),
        (limit, "{\"details\":\"name unknown\"}"),
        (limit, "{\"errors\":[]}"),
        (Some("408 Request Timeout"), "{}"),
        // It hangs up.
        (None, ""),
    ];
    if !has_containerd_store() {
        // With that, the engine tells the message alone.
        let busy = "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"denied\"}]}";
        again.push((Some("400 Bad Request"), busy));
    }
    for (status, body) in again {
        assert!(is_tried_again(&workspace, status, body), "{status:?} {body}");
    }
    let mut last = vec![
        (Some("409 Conflict"), "unexpected EOF"),
        (Some("413 Request Entity Too Large"), "<html>503 Service Unavailable</html>"),
        (
            Some("404 Not Found"),
            "{\"errors\":[{\"code\":\"NAME_UNKNOWN\",\"message\":\"i/o timeout\"}]}",
        ),
        (
            Some("403 Forbidden"),
            "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"HTTP status: 503, connection refused\"}]}",
        ),
    ];
    if !has_containerd_store() {
        let other =
            "{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"toomanyrequests: EOF\"}]}";
        last.push((Some("400 Bad Request"), other));
    }
    for (status, body) in last {
        assert!(!is_tried_again(&workspace, status, body), "{status:?} {body}");
    }
}

/// A secret that no output may show.
const PASSWORD: &str = "sesame123";

/// A workspace with an image to push to a registry with a password.
fn locked(registry: &Registry) -> Workspace {
    let workspace = Workspace::new().image("a", BASE).pushing_to(registry.address());
    let folder = workspace.root().join("target/docker").display().to_string();
    let path = format!("{}/bin:{}", workspace.root().display(), std::env::var("PATH").unwrap());
    let workspace = workspace.env("DOCKER_CONFIG", &folder).env("PATH", &path).secret(PASSWORD);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace
}

fn write_config(workspace: &Workspace, text: &str) {
    workspace.write("target/docker/config.json", text);
}

/// `me:sesame123`
const AUTH: &str = "bWU6c2VzYW1lMTIz";

#[test]
fn a_login_is_found_under_every_key_that_docker_knows() {
    let registry = Registry::start_with_password("me", PASSWORD);
    let workspace = locked(&registry);
    let address = registry.address();
    for key in [
        address.to_owned(),
        format!("{address}/"),
        format!("https://{address}/v2/"),
        format!("http://{address}"),
    ] {
        let config = format!("{{\"auths\":{{\"{key}\":{{\"auth\":\"{AUTH}\"}}}}}}");
        write_config(&workspace, &config);
        let _ = workspace.xtask(&["push", "-c", "."]).exits_with(0);
    }
    let other = format!("{{\"auths\":{{\"x.{address}\":{{\"auth\":\"{AUTH}\"}}}}}}");
    write_config(&workspace, &other);
    let output = workspace.xtask(&["push", "-c", "."]).exits_with(1);
    assert!(output.stderr.contains("no basic auth credentials"), "{}", output.stderr);
}

const GIVES: &str = "#!/bin/sh\nread server || :\necho \"$1 $server\" >> target/asked\n\
                     echo '{\"Username\":\"me\",\"Secret\":\"sesame123\"}'\n";

#[test]
fn helpers_are_asked_once_for_a_registry_and_the_one_for_it_goes_first() {
    let registry = Registry::start_with_password("me", PASSWORD);
    let workspace = locked(&registry)
        .script("bin/docker-credential-own", GIVES)
        .script("bin/docker-credential-all", "#!/bin/sh\necho credentials not found; exit 1\n");
    let address = registry.address();
    let own = format!("{{\"credsStore\":\"all\",\"credHelpers\":{{\"{address}\":\"own\"}}}}");
    write_config(&workspace, &own);
    let output = workspace.xtask(&["push", "-c", "."]).exits_with(0);
    assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    let remove = ["rmi".to_owned(), workspace.own(&format!("{address}/ns/tt-a:v1"))];
    docker(&remove.each_ref().map(String::as_str));
    fs::remove_file(workspace.root().join("target/asked")).unwrap();

    let from = format!("FROM {address}/ns/tt-a:v1\nLABEL x=");
    workspace.write("src/c/build/tt-c.dockerfile", &format!("{from}1\n"));
    workspace.write("src/d/build/tt-d.dockerfile", &format!("{from}2\n"));
    let _ = workspace.xtask(&["build", "-s", "c", "d"]).exits_with(0);
    let asked = fs::read_to_string(workspace.root().join("target/asked")).unwrap();
    assert_eq!(asked, format!("get {address}\n"));

    // That there is none is no error, and another's login is not taken.
    let all = format!("{{\"credsStore\":\"all\",\"auths\":{{\"x\":{{\"auth\":\"{AUTH}\"}}}}}}");
    write_config(&workspace, &all);
    let output = workspace.xtask(&["push", "-c", ".", "-i", "tt-a"]).exits_with(1);
    let mut lines = output.stderr.lines();
    assert_eq!(lines.next(), Some("pushing: [REGISTRY]/ns/tt-a:v1"), "{}", output.stderr);
    // The rest is as the engine says it.
    let failed = lines.next().unwrap();
    assert!(failed.starts_with("failed: [REGISTRY]/ns/tt-a:v1: "), "{failed}");
    assert!(failed.ends_with("no basic auth credentials"), "{failed}");
}

#[test]
fn what_keeps_a_login_from_being_found_is_said_and_what_is_in_the_file_holds() {
    let registry = Registry::start_with_password("me", PASSWORD);
    let workspace = locked(&registry)
        .script("bin/docker-credential-closed", "#!/bin/sh\necho the vault is sealed; exit 3\n")
        .script("bin/docker-credential-odd", "#!/bin/sh\necho sesame123\n")
        .script("bin/docker-credential-mute", "#!/bin/sh\nexit 1\n");
    let address = registry.address();
    let auths = format!("\"auths\":{{\"{address}\":{{\"auth\":\"{AUTH}\"}}}}");
    let warning = |config: &str, code: i32| {
        write_config(&workspace, config);
        let output = workspace.xtask(&["push", "-c", "."]).exits_with(code);
        let is_warning = |line: &&str| line.starts_with("warning: ");
        output.stderr.split_inclusive('\n').filter(is_warning).collect::<String>()
    };
    expect![[r#"
        warning: [ROOT]/target/docker/config.json: docker-credential-closed returned no credentials for [REGISTRY] (exit status: 3): the vault is sealed. Try 'docker login [REGISTRY]'
    "#]]
    .assert_eq(&warning(&format!("{{\"credsStore\":\"closed\",{auths}}}"), 0));
    expect![[r#"
        warning: [ROOT]/target/docker/config.json: docker-credential-odd returned invalid credentials for [REGISTRY]
    "#]]
    .assert_eq(&warning("{\"credsStore\":\"odd\"}", 1));
    expect![[r#"
        warning: [ROOT]/target/docker/config.json: docker-credential-mute returned no credentials for [REGISTRY] (exit status: 1): it printed no error. Try 'docker login [REGISTRY]'
    "#]]
    .assert_eq(&warning("{\"credsStore\":\"mute\"}", 1));
    expect![[r#"
        warning: [ROOT]/target/docker/config.json: credential helper docker-credential-gone is not in PATH: install it, or remove 'gone' from credsStore and credHelpers
    "#]]
    .assert_eq(&warning(&format!("{{\"credHelpers\":{{\"{address}\":\"gone\"}}}}"), 1));
    expect![[r#"
        warning: [ROOT]/target/docker/config.json: auths: invalid credentials for [REGISTRY]: 'auth' is not the base64 of USER:PASSWORD. Run 'docker login [REGISTRY]' again
    "#]]
    .assert_eq(&warning(&format!("{{\"auths\":{{\"{address}\":{{\"auth\":\"c2VzYW1l\"}}}}}}"), 1));
    expect![[r#"
        warning: [ROOT]/target/docker/config.json: is invalid, so its credentials and proxies are not used: expected a map at line 1 column 9. Fix it, or set DOCKER_CONFIG to another folder
    "#]]
    .assert_eq(&warning("{\"auths\":[]}", 1));
}

#[test]
fn a_config_that_is_no_file_is_said_and_ends_nothing() {
    let pipe = FileType::Fifo;
    for name in ["config.json/x", "x"] {
        let workspace =
            Workspace::new().image("a", BASE).file(&format!("target/docker/{name}"), "");
        let folder = workspace.root().join("target/docker");
        let file = folder.join("config.json");
        if !file.exists() {
            mknodat(CWD, &file, pipe, Mode::from_raw_mode(0o644), 0).unwrap();
        }
        let folder = folder.display().to_string();
        let output = workspace.env("DOCKER_CONFIG", &folder).xtask(&["build"]).exits_with(0);
        assert_eq!(output.stderr.matches("config.json: cannot be read").count(), 1);
    }
}

#[test]
fn a_helper_that_hangs_is_waited_for_and_ends_at_ctrl_c_with_all_that_it_started() {
    let registry = Registry::start_with_password("me", PASSWORD);
    let slow = "#!/bin/sh\nsleep 901 &\necho $! > target/child\nwait\n";
    let workspace = locked(&registry).script("bin/docker-credential-slow", slow);
    write_config(&workspace, "{\"credsStore\":\"slow\"}");
    let mut running = workspace.start(&["push", "-c", "."]);
    running.wait_for("waiting: for docker-credential-slow to return credentials");
    running.interrupt();
    let _ = running.finish().exits_with(130);
    let child = fs::read_to_string(workspace.root().join("target/child")).unwrap();
    let line = Path::new("/proc").join(child.trim()).join("cmdline");
    wait_until("the helper's end", || !fs::read(&line).is_ok_and(|line| line == b"sleep\0901\0"));
}

#[test]
fn the_proxies_of_docker_s_config_reach_builds_as_docker_sends_them() {
    let dockerfile = "FROM scratch\nARG HTTP_PROXY\nARG http_proxy\nARG ALL_PROXY\nARG no_proxy\n\
                      LABEL a=$HTTP_PROXY b=$http_proxy c=$ALL_PROXY d=$no_proxy\n";
    let workspace = Workspace::new().image("a", dockerfile);
    let host = format!("unix://{}", tests::engine::engine_socket().display());
    let folder = workspace.root().join("target/docker").display().to_string();
    let workspace = workspace.env("DOCKER_CONFIG", &folder).env("DOCKER_HOST", &host);
    let labels = |arguments: &[&str]| {
        let _ = workspace.xtask(arguments).exits_with(0);
        image_config(&workspace.own("tt-a"))["Labels"].to_string()
    };
    let default = "\"default\":{\"httpProxy\":\"http://d:1\",\"noProxy\":\"*.corp\"}";
    write_config(&workspace, &format!("{{\"proxies\":{{{default}}}}}"));
    expect![[r#"{"a":"http://d:1","b":"http://d:1","c":"","d":"*.corp"}"#]]
        .assert_eq(&labels(&["build"]));
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("1 up to date"), "{}", output.stderr);
    let plan = workspace.xtask(&["graph", "--stale"]).exits_with(0);
    assert!(!plan.stdout.contains("stale"), "{}", plan.stdout);
    expect![[r#"{"a":"http://d:1","b":"mine","c":"","d":"*.corp"}"#]].assert_eq(&labels(&[
        "build",
        "--build-arg",
        "http_proxy=mine",
    ]));
    let own = format!("\"{host}\":{{\"allProxy\":\"http://e:1\"}}");
    write_config(&workspace, &format!("{{\"proxies\":{{{default},{own}}}}}"));
    expect![[r#"{"a":"","b":"","c":"http://e:1","d":""}"#]].assert_eq(&labels(&["build"]));
}
