//! Whatever names, logs, files and messages hold, a terminal and a CI log obey none of it;
//! and no result is lost without a word.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;

use expect_test::expect;
use serde_json::Value;
use tests::registry::Registry;
use tests::{Output, Workspace};

/// Every kind of character that must not get out: a title of the terminal, C0, DEL, C1,
/// what changes the direction of text, and breaks.
const HOSTILE: &str = "x\u{1b}]0;t\u{7}\u{1b}[2J\u{1b}[31m\u{8}\u{7f}\u{9b}2J\u{85}\u{61c}\u{200f}\
                       \u{202e}\u{2066}\u{2028}\u{2029}\n::error::y\r::z\tend";

/// The same as it is shown.
const SHOWN: &str = "x\\x1b]0;t\\x07\\x1b[2J\\x1b[31m\\x08\\x7f\\u{9b}2J\\u{85}\\u{61c}\\u{200f}\
                     \\u{202e}\\u{2066}\\u{2028}\\u{2029}\\n::error::y\\r::z";

fn is_hostile(letter: char) -> bool {
    let code = u32::from(letter);
    let is_c0 = code < 0x20 && letter != '\n';
    let is_bidi = [0x61c, 0x200e, 0x200f].contains(&code)
        || (0x202a..=0x202e).contains(&code)
        || (0x2066..=0x2069).contains(&code);
    is_c0 || (0x7f..=0x9f).contains(&code) || is_bidi || code == 0x2028 || code == 0x2029
}

/// Fails if a text holds what a terminal obeys, but for the sequences `allowed`.
fn assert_harmless(text: &str, allowed: &[&str]) {
    let mut left = text.to_owned();
    for sequence in allowed {
        left = left.replace(sequence, "");
    }
    assert!(!left.contains(is_hostile), "{left:?}");
}

/// Fails if GitHub's runner would obey a line that is not one of ours.
fn assert_inert(text: &str) {
    for line in text.split(['\n', '\r']) {
        let is_own = ["::group::", "::endgroup::", "::error file=src/"];
        let is_command = line.trim_start().starts_with("::") || line.contains("##[");
        let is_own = is_own.iter().any(|own| line.starts_with(own)) && !line.contains("##[");
        assert!(!is_command || is_own, "{line:?} in\n{text}");
    }
}

/// A component of a hostile name with hostile files, which builds if `succeeds`.
fn hostile(succeeds: bool) -> Workspace {
    let end = if succeeds { "" } else { "COPY none /\n" };
    let dockerfile = format!("FROM scratch\n# \u{1b}[2J\u{202e}\tcomment\nCOPY . /\n{end}");
    let workspace = Workspace::new()
        .file(&format!("src/{HOSTILE}/build/tt-hostile.dockerfile"), &dockerfile)
        .file(&format!("src/{HOSTILE}/{HOSTILE}"), "1")
        .image("other", "FROM tt-hostile\n");
    symlink("/bin/\u{1b}[2J", workspace.root().join(format!("src/{HOSTILE}/link\u{9d}"))).unwrap();
    workspace
}

#[test]
fn the_trace_commands_nothing() {
    let hook =
        "#!/bin/sh\nf=$(printf 'src/a/e\\033[31mvil\\n::error::x\\n##[error]y')\n: > \"$f\"\n";
    let workspace = Workspace::new()
        .env("GITHUB_ACTIONS", "true")
        .image("a", "FROM scratch\nCOPY . /\n")
        .file("src/a/build/build-pre.sh", hook);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let trace = workspace.xtask(&["-vv", "build"]).exits_with(0).stderr;
    assert!(trace.contains("vil"), "{trace}");
    assert!(!trace.contains('\u{1b}') && !trace.contains("##[error]y"), "{trace}");
    assert!(!trace.lines().any(|line| line.starts_with("::error::x")), "{trace}");
}

#[test]
fn names_are_shown_as_text_by_every_command() {
    let workspace = hostile(true);
    let commands: [&[&str]; 13] = [
        &["build", "-n"],
        &["list"],
        &["why", HOSTILE],
        &["build", "--progress", "plain"],
        &["graph"],
        &["graph", "--stale", "--external"],
        &["graph", "--dot"],
        &["graph", "--dot", "--images"],
        &["graph", "--mermaid"],
        &["graph", "--between", "other", HOSTILE],
        &["context", HOSTILE],
        &["build", "--force"],
        &["build", "-n", "--verbose"],
    ];
    for arguments in commands {
        let output = workspace.xtask(arguments).exits_with(0);
        assert_harmless(&output.stderr, &[]);
        assert_harmless(&output.stdout, &[]);
        let all = output.stdout + &output.stderr;
        assert!(all.contains(SHOWN) || all.contains(&SHOWN.replace('\\', "\\\\")), "{all}");
    }
    // A changed name is a reason.
    workspace.write(&format!("src/{HOSTILE}/new\u{9b}\n"), "");
    let output = workspace.xtask(&["build", "-n"]).exits_with(0);
    assert!(output.stdout.contains("/new\\u{9b}\\n added"), "{}", output.stdout);
    assert_harmless(&output.stdout, &[]);
}

#[test]
fn a_terminal_is_drawn_on_by_nothing_but_the_tool() {
    let workspace = hostile(true);
    workspace.write(
        &format!("src/{HOSTILE}/build/build-pre.sh"),
        "#!/bin/sh\nprintf '\\033]0;t\\007\\033[2Jlog\\b\\r\\n'\n",
    );
    let own = ["\r", "\u{1b}[0J", "\u{1b}[1A", "\u{1b}[2A", "\u{1b}[3A"];
    let output = workspace.xtask(&["build", "--progress", "tty"]).exits_with(0);
    assert_harmless(&output.stderr, &own);
    assert!(output.stderr.contains(SHOWN), "{}", output.stderr);
    let terminal = workspace.start_on_terminal(200, &["build", "--force"]);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains(&format!("✓ {SHOWN}")), "{screen}");
}

#[test]
fn a_failure_is_shown_without_what_it_quotes_being_obeyed() {
    let workspace = hostile(false);
    let output = workspace.xtask(&["build"]).exits_with(1);
    assert_harmless(&output.stderr, &[]);
    let error = output.error();
    assert!(error.contains("\n  2 | # \\x1b[2J\\u{202e}       comment\n"), "{error}");
    let message = format!("error: src/{SHOWN}");
    assert!(error.starts_with(&message), "{error}");
    let command = error.lines().last().unwrap();
    assert!(command.starts_with("to reproduce: cargo xtask build -s $'x\\033]0;t\\007"), "{error}");
}

#[test]
fn errors_before_a_round_are_harmless() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n");
    let fails = |workspace: &Workspace, arguments: &[&str]| {
        let output = workspace.xtask(arguments);
        assert_ne!(output.code, 0);
        assert_harmless(&output.stderr, &[]);
        assert!(output.stderr.contains("\\x1b[2J"), "{}", output.stderr);
    };
    fails(&workspace, &["build", "-s", HOSTILE]);
    fails(&workspace, &["build", "--since", "\u{1b}[2J\u{202e}"]);
    fails(&workspace, &["build", "--build-arg", &format!("={HOSTILE}")]);
    fails(&workspace, &["build", "-c", HOSTILE]);
    fails(&workspace, &["context", HOSTILE]);
    fails(&workspace, &["build", "--root", HOSTILE]);
    fails(&workspace, &["graph", "--svg", "none\u{1b}[2J\n/x"]);
    let workspace = workspace.env("DOCKER_HOST", "unix:///\u{1b}[2J\u{9b}.sock");
    fails(&workspace, &["build"]);
    workspace.write("src/a/build/component.dep", "b\u{1b}[2J\u{202e}\n");
    fails(&workspace, &["build"]);
    // A cycle is the one message of several lines.
    let other = HOSTILE.replace(['\n', '\r'], "");
    workspace.write(&format!("src/{other}/build/component.dep"), "a\n");
    workspace.write("src/a/build/component.dep", &other);
    let cycle = workspace.xtask(&["build"]).exits_with(2).stderr;
    assert!(cycle.starts_with("error: dependency cycle: a → x\\x1b]0;t"), "{cycle}");
    assert_harmless(&cycle, &[]);
    workspace.write("src/a/build/component.dep", "");
    workspace.write(&format!("src/{HOSTILE}/build/tt-b.dockerfile"), "no \u{1b}[2J\n");
    fails(&workspace, &["build"]);
}

#[test]
fn a_change_that_is_watched_is_harmless() {
    let workspace = hostile(true);
    let mut running = workspace.start(&["watch", "--progress", "plain"]);
    running.wait_for("watching: ");
    workspace.write(&format!("src/{HOSTILE}/\u{1b}[2J\u{202e}\n::x"), "");
    running.wait_for("changed: ");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_harmless(&output.stderr, &[]);
    assert!(output.stderr.contains("/\\x1b[2J\\u{202e}\\n::x → "), "{}", output.stderr);
}

#[test]
fn log_lines_keep_their_colours_and_nothing_else() {
    let hook = "#!/bin/sh\n\
                printf '\\033[1;38;5;9mred\\tand \\033[4mmore\\n'\n\
                printf '\\033[32mgreen\\033[m\\n'\n\
                printf '\\033]8;;http://x\\033\\\\link\\033]8;;\\033\\\\ \\033[2K\\033[Hhome \\033(B\\n'\n\
                printf 'hidden\\rshown\\n10%%\\r100%%\\r\\n'\n\
                printf '\\302\\233[31mC1 \\342\\200\\256bidi \\033[31\\n'\n";
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY build /\n")
        .script("src/a/build/build-pre.sh", hook);
    let logged = |output: &Output, name: &str| -> String {
        let lines = output.stderr.lines().filter_map(|line| line.strip_prefix(name));
        let lines = lines.map(|line| format!("{}\n", line.replace('\u{1b}', "ESC")));
        lines.filter(|line| !line.contains("built in")).collect()
    };
    let output = workspace.xtask(&["build", "--color", "always"]).exits_with(0);
    let colored = logged(&output, "\u{1b}[2ma |\u{1b}[0m ");
    let lines = ["red", "green", "link", "shown", "100%", "C1"];
    let is_logged = |line: &&str| lines.iter().any(|word| line.contains(word));
    let colored: Vec<&str> = colored.lines().filter(is_logged).collect();
    expect![[r#"
        ESC[1;38;5;9mred     and ESC[4mmoreESC[0m
        ESC[32mgreenESC[m
        link home 
        shown
        100%
        \u{9b}[31mC1 \u{202e}bidi \x1b[31
    "#]]
    .assert_eq(&(colored.join("\n") + "\n"));
    let output = workspace.xtask(&["build", "--force"]).exits_with(0);
    assert_harmless(&output.stderr, &[]);
    let plain = logged(&output, "a | ");
    let plain: Vec<&str> = plain.lines().filter(is_logged).collect();
    expect![[r#"
        red     and more
        green
        link home 
        shown
        100%
        \u{9b}[31mC1 \u{202e}bidi \x1b[31
    "#]]
    .assert_eq(&(plain.join("\n") + "\n"));
}

#[test]
fn pictures_and_documents_hold_no_control_characters() {
    let workspace = hostile(true);
    for file in ["graph.svg", "graph.html"] {
        let _ = workspace.xtask(&["graph", &format!("--{}", &file[6..]), file]).exits_with(0);
        let drawing = fs::read_to_string(workspace.root().join(file)).unwrap();
        let drawing = drawing.replace('\t', " ");
        assert_harmless(&drawing, &[]);
        assert!(drawing.contains(SHOWN), "{drawing}");
    }
    let _ = workspace.xtask(&["build", "--timings"]).exits_with(0);
    for file in ["timings.html", "timings.json"] {
        let page = fs::read_to_string(workspace.root().join("target/xtask").join(file)).unwrap();
        assert_harmless(&page, &[]);
    }
    let documents: [&[&str]; 5] = [
        &["graph", "--json"],
        &["list", "--json"],
        &["context", HOSTILE, "--json"],
        &["build", "-n", "--json"],
        &["build", "--progress", "json"],
    ];
    for arguments in documents {
        let output = workspace.xtask(arguments).exits_with(0);
        assert_harmless(&output.stdout, &[]);
        // To a program, a name is what it is.
        let read: Vec<Value> = match serde_json::from_str(&output.stdout) {
            Ok(document) => vec![document],
            Err(_) => {
                output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
            }
        };
        let mut strings = BTreeSet::new();
        for value in &read {
            collect(value, &mut strings);
        }
        assert!(strings.contains(HOSTILE), "{strings:?}");
    }
}

fn collect(value: &Value, strings: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            strings.insert(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, strings)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, strings)),
        _ => {}
    }
}

#[test]
fn a_log_lies_where_it_should_whatever_its_component_is_called() {
    let workspace = hostile(true);
    let hook = "#!/bin/sh\nprintf 'raw \\b\\n'\n";
    workspace.write(&format!("src/{HOSTILE}/build/build-pre.sh"), hook);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let logs = fs::read_dir(workspace.root().join("target/xtask/logs")).unwrap();
    let logs: BTreeSet<String> =
        logs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let own = logs.iter().find(|name| name.starts_with(SHOWN)).expect("a log");
    let text = fs::read_to_string(workspace.root().join("target/xtask/logs").join(own)).unwrap();
    assert!(text.contains("raw \u{8}\n"), "{text:?}");
}

#[test]
fn no_output_is_a_command_for_github() {
    let hook = "#!/bin/sh\n\
                echo '::add-mask::a'; printf ' \\t::set-env name=X::y\\n'\n\
                printf '\\302\\240::stop-commands::x\\n'; echo 'at the end ##[set-output name=a;]b'\n\
                printf 'a\\r::error::b\\n'\n";
    // An engine's error of several lines.
    let command = r#"RUN ["sh", "-c", "echo 1\n::error::2\n  ::warning::3\nfalse tt-"]"#;
    let workspace = Workspace::new()
        .with_box()
        .script("src/a/build/build-pre.sh", hook)
        .image("a", &format!("FROM tt-box\n# ::error::4 ##[error]5\n{command}\n"))
        .file("src/a/f\n::error::6", "")
        .image("::error::7", "FROM scratch\nCOPY none /\n")
        .env("GITHUB_STEP_SUMMARY", "target/summary.md")
        .env("GITHUB_ACTIONS", "true");
    // The image of that component has to have another name.
    fs::rename(
        workspace
            .root()
            .join("src/::error::7/build")
            .join(workspace.own("tt-::error::7.dockerfile")),
        workspace.root().join("src/::error::7/build").join(workspace.own("tt-b.dockerfile")),
    )
    .unwrap();
    for progress in ["auto", "plain", "tty"] {
        let arguments = ["build", "--keep-going", "--progress", progress];
        let output = workspace.xtask(&arguments).exits_with(1);
        assert_inert(&output.stderr.replace("\u{1b}[0J", ""));
        // Newer engines name an instruction in one line.
        let is_shown =
            ["\\::error::2", "1\\n::error::2"].iter().any(|it| output.stderr.contains(it));
        assert!(is_shown, "{}", output.stderr);
    }
    let commands: [&[&str]; 6] = [
        &["build", "--quiet", "--keep-going"],
        &["build", "-n"],
        &["graph"],
        &["graph", "--dot"],
        &["context", "a"],
        &["build", "-s", "no\n::error::x ##[error]y"],
    ];
    for arguments in commands {
        let output = workspace.xtask(arguments);
        assert_inert(&output.stderr);
        assert_inert(&output.stdout);
    }
    let summary = fs::read_to_string(workspace.root().join("target/summary.md")).unwrap();
    assert!(summary.contains("```\nerror: "), "{summary}");
}

#[test]
fn our_own_commands_are_escaped() {
    let workspace = Workspace::new()
        .image("100%,a:b", "")
        .env("GITHUB_STEP_SUMMARY", "target/summary.md")
        .env("GITHUB_ACTIONS", "true");
    let build = workspace.root().join("src/100%,a:b/build");
    fs::remove_file(build.join(workspace.own("tt-100%,a:b.dockerfile"))).unwrap();
    let name = "src/100%,a:b/build/tt-c.dockerfile";
    workspace.write(name, "FROM scratch\n# ``` ````\nCOPY none /\n");
    let output = workspace.xtask(&["build"]).exits_with(1);
    // A busy machine shows the lines of a component as they come, in a group of their own.
    let commands = output.stderr.lines().filter(|line| line.starts_with("::"));
    let commands = commands.map(|line| line.replace(": in progress", ": failed in [TIME]"));
    let mut commands: Vec<String> = commands.collect();
    let mut seen = BTreeSet::new();
    commands.retain(|line| seen.insert(line.clone()));
    expect![[r#"
        ::group::100%25,a:b: failed in [TIME]
        ::endgroup::
        ::error file=src/100%25%2Ca%3Ab/build/tt-c.dockerfile,line=3::src/100%25,a:b/build/tt-c.dockerfile:3: image 'tt-c' failed to build: failed to compute cache key: "/none": not found%0Athe context, src/100%25,a:b, has no 'none'
    "#]]
    .assert_eq(&(commands.join("\n") + "\n"));
    // Nothing in a block of the summary ends it.
    let summary = fs::read_to_string(workspace.root().join("target/summary.md")).unwrap();
    assert!(summary.contains("\n`````\nerror: ") && summary.ends_with("\n`````\n\n"), "{summary}");
}

#[test]
fn the_command_that_reproduces_a_failure_is_whole() {
    let workspace = Workspace::new()
        .file(
            "config dir/services-configuration.yaml",
            "cluster: {docker-registry: {domain: r.x, namespace: n, tag: t}}\n",
        )
        .file(
            "src/it's $(touch pwned)/build/tt-a.yarn.dockerfile",
            "FROM scratch\nARG A\nARG B\nCOPY none /\n",
        );
    let options = [
        "-c",
        "config dir",
        "--flavor",
        "yarn",
        "--build-arg",
        "A=1 2",
        "--build-arg",
        "B=`x`",
        "--builder",
        "buildkit",
        "--whole-context",
        "--root",
        ".",
        "-j",
        "1",
    ];
    let arguments = [&["build", "--no-cache", "--force", "--keep-going"], &options[..]].concat();
    let output = workspace.xtask(&arguments).exits_with(1);
    let command = output.error().lines().last().unwrap().to_owned();
    expect![[r#"to reproduce: cargo xtask build -s 'it'\''s $(touch pwned)' --root . --builder buildkit -c 'config dir' --flavor yarn --build-arg 'A=1 2' --build-arg 'B=`x`' --whole-context"#]].assert_eq(&command);
    // A shell makes the same command of it.
    let (_, line) = command.split_once("cargo xtask ").unwrap();
    let mut shell = workspace.command_below(&["bash", "-c", &format!("\"$0\" {line}")]);
    let again = workspace.run(&mut shell).finish().exits_with(1);
    assert_eq!(again.error(), output.error());
    assert!(!workspace.root().join("pwned").exists());
    // The environment says where the configuration is the next time, too.
    let workspace = workspace.env("PAI_CONFIG_DIR", "config dir");
    let mut watch = workspace.start(&[&["watch"], &options[2..]].concat());
    watch.wait_for("to reproduce: cargo xtask build -s");
    watch.wait_for("watching: ");
    watch.interrupt();
    let output = watch.finish().exits_with(0);
    assert!(output.stderr.contains(&command.replace(" -c 'config dir'", "")), "{}", output.stderr);
}

/// Runs the binary with its output going elsewhere.
fn with(
    workspace: &Workspace,
    stdout: impl Into<Stdio>,
    stderr: impl Into<Stdio>,
    arguments: &[&str],
) -> (i32, String) {
    let mut command: Command = workspace.command_below(&["env"]);
    let output = command.args(arguments).stdout(stdout).stderr(stderr).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap_or(-1), error)
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe whose reader has gone away.
fn closed() -> io::PipeWriter {
    io::pipe().unwrap().1
}

#[test]
fn a_result_that_is_lost_is_an_error_and_a_reader_that_is_gone_is_none() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY build /\n")
        .script("src/a/build/build-pre.sh", "#!/bin/sh\n:\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let commands: [&[&str]; 19] = [
        &["graph"],
        &["graph", "--dot"],
        &["graph", "--mermaid"],
        &["graph", "--json"],
        &["build", "-n"],
        &["build", "-n", "--json"],
        &["build", "--progress", "json"],
        &["context", "a"],
        &["context", "a", "--json"],
        &["context", "a", "--hooks"],
        &["inputs", "a"],
        &["list"],
        &["list", "--json"],
        &["why", "a"],
        &["logs", "a"],
        &["man"],
        &["completions", "bash"],
        &["--version"],
        &["build", "--help"],
    ];
    let lost = "standard output: cannot be written: No space left on device (os error 28)\n";
    for arguments in commands {
        let (code, error) = with(&workspace, full(), Stdio::piped(), arguments);
        assert_eq!(code, 1, "{arguments:?}");
        assert!(error.ends_with(&format!("error: {lost}")), "{arguments:?}: {error}");
        let (code, error) = with(&workspace, closed(), Stdio::piped(), arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        assert!(!error.contains("error: "), "{arguments:?}: {error}");
    }
    // Progress is no result.
    let (code, _) = with(&workspace, Stdio::null(), full(), &["build", "--force"]);
    assert_eq!(code, 0);
    let (code, _) = with(&workspace, Stdio::null(), closed(), &["build", "--force"]);
    assert_eq!(code, 0);
    // What fails anyhow fails as it did.
    let (code, error) = with(&workspace, full(), Stdio::piped(), &["context", "none"]);
    assert_eq!((code, error.contains("no component 'none'")), (2, true));
}

/// A workspace with one image, and a configuration to push it to a registry.
fn pushed_to(address: &str) -> Workspace {
    let registry = format!("{{domain: \"{address}\", namespace: n, tag: t}}");
    let config = format!("cluster: {{docker-registry: {registry}}}\n");
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY build /\n")
        .file("c/services-configuration.yaml", &config);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace
}

#[test]
fn digests_that_are_lost_are_an_error() {
    let registry = Registry::start();
    let workspace = pushed_to(registry.address());
    let push = ["push", "-c", "c"];
    let (code, error) = with(&workspace, full(), Stdio::piped(), &push);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("error: standard output: cannot be written: "), "{error}");
    assert_eq!(with(&workspace, closed(), Stdio::piped(), &push).0, 0);
}

#[test]
fn the_words_of_a_registry_are_not_obeyed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let words =
            r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J\u202e\u009b\n::error::x"}]}"#;
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 1 << 12];
            let _ = client.read(&mut request);
            // A refusal of what is only asked after would have no words.
            let status =
                if request.starts_with(b"HEAD ") { "404 Not Found" } else { "403 Forbidden" };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close");
            let _ = write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{words}", words.len());
        }
    });
    let workspace = pushed_to(&address).env("GITHUB_ACTIONS", "true");
    let push = ["push", "-c", "c", "--retry-for", "0"];
    for progress in ["plain", "tty"] {
        let output = workspace.xtask(&[&push[..], &["--progress", progress]].concat());
        assert_eq!(output.code, 1);
        assert!(output.stderr.contains("no\\x1b[2J\\u{202e}\\u{9b}"), "{}", output.stderr);
        let own = if progress == "tty" { &["\r", "\u{1b}[0J"][..] } else { &[] };
        assert_harmless(&output.stderr, own);
        assert_inert(&output.stderr);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY . /\n").file("src/a/f", "1");
    // More than is buffered, so that an entry is written in the middle of its file.
    workspace.write_bytes("src/a/large", &vec![1; 1 << 20]);
    for option in ["--svg", "--html"] {
        let output = workspace.xtask(&["graph", option, "/dev/full"]).exits_with(1);
        let error = "error: /dev/full: cannot be written: No space left on device (os error 28)\n";
        assert_eq!(output.stderr, error);
    }
    for arguments in [&["context", "a"][..], &["context", "a", "--hooks"]] {
        let output = workspace.xtask(&[arguments, &["--tar", "/dev/full"]].concat()).exits_with(1);
        let error = "error: /dev/full: cannot be written: No space left on device (os error 28)\n";
        assert!(output.error().starts_with(error), "{}", output.stderr);
        let output = workspace.xtask(&[arguments, &["--tar", "none/x"]].concat()).exits_with(1);
        let error = "error: none/x: cannot be written: No such file or directory (os error 2)\n";
        assert!(output.error().starts_with(error), "{}", output.stderr);
    }
}

#[test]
fn a_copy_of_nothing_is_not_blamed_on_a_command_that_merely_runs() {
    let slow = "FROM tt-box\nRUN echo tt-; sleep 20\n";
    let forms = [
        "COPY build none /x/\n",
        "ADD [\"./none/\", \"/x\"]\n",
        "COPY \\\n  # why\n  --chown=1 none /x\n",
        "RUN --mount=type=bind,source=none,target=/n ls\n",
    ];
    for form in forms {
        let workspace = Workspace::new().with_box().image("a", &format!("{slow}{form}"));
        let output = workspace.xtask(&["build"]).exits_with(1);
        let error = output.error();
        assert!(error.contains("\"/none\": not found"), "{error}");
        assert!(error.starts_with("error: src/a/build/tt-a.dockerfile:3: "), "{error}");
        assert!(error.contains("\n> 3 | "), "{error}");
    }
    // Where it is not certain which of two it is, it is none.
    let workspace =
        Workspace::new().with_box().image("a", &format!("{slow}COPY none /x\nCOPY none /y\n"));
    let output = workspace.xtask(&["build"]).exits_with(1);
    assert!(!output.error().contains("> 2 |"), "{}", output.error());
}

#[test]
fn what_hooks_read_is_declared_in_lines_that_show_everything() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY build /\n")
        .file("shared/a\u{1b}[2J\nb", "1")
        .script("src/a/build/build-pre.sh", "#!/bin/sh\ncat shared/a*b\n");
    let output = workspace.xtask(&["inputs", "a"]).exits_with(0);
    assert_harmless(&output.stdout, &[]);
    workspace.write("src/a/build/inputs", &output.stdout);
    let _ = workspace.xtask(&["inputs", "a", "--check"]).exits_with(0);
}
