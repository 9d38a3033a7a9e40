//! `logs` prints what a component's build wrote last, and follows it.

use std::process::{Command, Stdio};

use tests::{Workspace, wait_until};

fn tree() -> Workspace {
    let hook = "#!/bin/sh\nprintf 'one\\033[31m two\\033[0m\\nl\\303\\244st'\n";
    Workspace::new()
        .script("src/web/build/build-pre.sh", hook)
        .file("src/web/build/component.dep", "data\n")
        .image("quiet", "FROM scratch\nLABEL a=b\n")
        .file("src/data/one", "1")
}

#[test]
fn the_last_log_is_printed() {
    let workspace = tree();
    let missing = workspace.xtask(&["logs", "web"]).exits_with(1);
    let said = "error: 'web' has no log: no build of it has written anything\n";
    assert_eq!(missing.error(), said);
    let _ = workspace.xtask(&["build", "web"]).exits_with(0);
    for arguments in [["logs", "web"], ["logs", "src/web/"], ["logs", "we?"]] {
        assert_eq!(workspace.xtask(&arguments).exits_with(0).stdout, "one two\nläst\n");
    }
    let output = workspace.xtask(&["logs", "web", "--progress", "json"]).exits_with(0);
    let event: serde_json::Value = serde_json::from_str(output.stdout.trim()).unwrap();
    assert_eq!((&event["event"], &event["text"]), (&"output".into(), &"one two\nläst\n".into()));
    let said = "error: no component 'wbe' under src/ (did you mean 'web'?)\n";
    assert_eq!(workspace.xtask(&["logs", "wbe"]).exits_with(2).error(), said);
    let several = workspace.xtask(&["logs", "*"]).exits_with(2);
    let said = "error: '*' matches several components: name one of data, quiet, web\n";
    assert_eq!(several.error(), said);
}

#[test]
fn each_instruction_is_named_once() {
    let workspace = Workspace::new()
        .image("web", "FROM scratch\nCOPY one /\nCOPY two /\n")
        .file("src/web/one", "tt-1")
        .file("src/web/two", "tt-2");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let logs = workspace.xtask(&["logs", "web"]).exits_with(0);
    assert_eq!(logs.stdout, "[1/2] COPY one /\n[2/2] COPY two /\n");
}

#[test]
fn it_is_followed_into_the_next_build_until_ctrl_c() {
    let workspace = tree();
    let out = workspace.root().join("target/followed");
    workspace.write("target/followed", "");
    let mut follower = workspace.command_below(&["env"]);
    follower.args(["logs", "-f", "web"]).stdout(std::fs::File::create(&out).unwrap());
    follower.stderr(Stdio::null());
    let mut follower = follower.spawn().unwrap();
    let printed = || std::fs::read_to_string(&out).unwrap();
    let _ = workspace.xtask(&["build", "web"]).exits_with(0);
    wait_until("the first log", || printed() == "one two\nläst\n");
    workspace
        .write("src/web/build/build-pre.sh", "#!/bin/sh\necho one more line than before\necho b\n");
    let _ = workspace.xtask(&["build", "web"]).exits_with(0);
    let all = "one two\nläst\none more line than before\nb\n";
    wait_until("the second log", || printed() == all);
    let _ = workspace.xtask(&["build", "web", "--force"]).exits_with(0);
    let id = rustix::process::Pid::from_child(&follower);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn it_ends_with_the_reader_of_its_pipe() {
    let workspace = tree();
    let _ = workspace.xtask(&["build", "web"]).exits_with(0);
    let mut command = workspace.command_below(&["sh", "-c", "\"$0\" logs -f web | head -n 1"]);
    let output = workspace.run(&mut command).finish().exits_with(0);
    assert_eq!(output.stdout, "one two\n");
}

#[test]
fn every_list_ends_with_the_reader_of_its_pipe() {
    let workspace = tree();
    let script = "for c in list 'why quiet' 'build -n' 'graph --stale' man 'completions bash'; do
                  \"$0\" $c | head -c 1 > /dev/null || echo $c; done";
    let mut command: Command = workspace.command_below(&["bash", "-o", "pipefail", "-c", script]);
    let output = workspace.run(&mut command).finish().exits_with(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}
