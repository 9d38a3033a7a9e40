//! What lies in a tree that nobody expects: modes that come and go, links that lead
//! elsewhere, pipes in the place of files, names with dots, files from Windows, and folders
//! that may not be read.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tests::engine::image_tree;
use tests::{Output, Running, Workspace};

const ALL: &str = "FROM scratch\nCOPY . /\n";
const FILE: &str = "FROM scratch\nCOPY f /\n";

fn chmod(workspace: &Workspace, path: &str, mode: u32) {
    fs::set_permissions(workspace.root().join(path), Permissions::from_mode(mode)).unwrap();
}

fn link(workspace: &Workspace, path: &str, target: &str) {
    let path = workspace.root().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

/// What is at a path in an image: its kind, mode and owner, and what is in it.
fn found(workspace: &Workspace, image: &str, path: &str) -> String {
    image_tree(&workspace.own(image)).remove(path).unwrap_or_default()
}

/// Nothing is built that is up to date.
fn is_up_to_date(workspace: &Workspace, arguments: &[&str]) {
    let output = workspace.xtask(&[&["build"], arguments].concat()).exits_with(0);
    assert_eq!(output.built_by_name(), [""; 0], "{}", output.stderr);
}

#[test]
fn a_folder_has_the_mode_that_it_has_now() {
    let workspace = Workspace::new().image("a", ALL).file("src/a/f", "1");
    fs::create_dir_all(workspace.root().join("src/a/top/mid/empty")).unwrap();
    let folders = ["top", "top/mid", "top/mid/empty"];
    for (number, mode) in [0o755, 0o700, 0o755, 0o2755, 0o1755, 0o700].into_iter().enumerate() {
        let folder = folders[number % 2 * 2];
        chmod(&workspace, &format!("src/a/{folder}"), mode);
        let _ = workspace.xtask(&["build"]).exits_with(0);
        let expected = format!("Directory {mode:o} 0:0 None ");
        assert_eq!(found(&workspace, "tt-a", folder), expected, "{folder}, change {number}");
        is_up_to_date(&workspace, &[]);
    }
    // A file comes, and the folder above it changes with it.
    workspace.write("src/a/top/mid/new", "1");
    chmod(&workspace, "src/a/top/mid", 0o711);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(found(&workspace, "tt-a", "top/mid"), "Directory 711 0:0 None ");
}

#[test]
fn a_folder_that_becomes_something_else_and_back_is_what_it_is_now() {
    let workspace = Workspace::new().image("a", ALL).file("src/a/d/f", "1").file("src/a/e/f", "2");
    let build = || {
        let _ = workspace.xtask(&["build"]).exits_with(0);
        image_tree(&workspace.own("tt-a"))
    };
    let before = build();
    let folder = workspace.root().join("src/a/d");
    fs::rename(&folder, workspace.root().join("src/aside")).unwrap();
    link(&workspace, "src/a/d", "e");
    let linked = build();
    assert!(linked["d"].starts_with("Symlink"), "{}", linked["d"]);
    assert!(linked["e/f"].ends_with(" 2"), "{}", linked["e/f"]);
    fs::remove_file(&folder).unwrap();
    fs::rename(workspace.root().join("src/aside"), &folder).unwrap();
    assert_eq!(build(), before);
}

#[test]
fn a_platform_arg_given_by_hand_decides_what_an_image_is_made_from() {
    let workspace = Workspace::new()
        .file("src/v9/build/tt-on-v9.dockerfile", FILE)
        .file("src/plain/build/tt-on-none.dockerfile", FILE)
        .file("src/v9/f", "v9")
        .file("src/plain/f", "none")
        .image("user", "FROM tt-on-${TARGETVARIANT:-none}\nCOPY g /\n")
        .file("src/user/g", "1");
    let arg = ["--build-arg", "TARGETVARIANT=v9"];
    let build = |arguments: &[&str]| {
        let _ = workspace.xtask(&[&["build", "-s", "user"], arguments].concat()).exits_with(0);
        let file = found(&workspace, "tt-user", "f");
        is_up_to_date(&workspace, &[&["-s", "user"], arguments].concat());
        file.split_whitespace().last().unwrap_or_default().to_owned()
    };
    assert_eq!(build(&[]), "none");
    assert_eq!(build(&arg), "v9");
    assert_eq!(build(&[]), "none");
    let drawn = workspace.xtask(&[&["graph", "-s", "user"], &arg[..]].concat()).exits_with(0);
    assert!(drawn.stdout.contains("v9") && !drawn.stdout.contains("plain"), "{}", drawn.stdout);
}

#[test]
fn an_arg_without_end_is_an_error_with_its_line() {
    let twice = |n| format!("ARG A{n}=$A{0}-$A{0}", n - 1);
    let doubling = (1..50).map(twice).collect::<Vec<_>>().join("\n");
    let workspace = Workspace::new().image("a", &format!("ARG A0=x\n{doubling}\nFROM $A49\n"));
    let nested = format!("FROM {}x{}\n", "${A:-".repeat(50_000), "}".repeat(50_000));
    let workspace = workspace.image("b", &nested);
    let output = workspace.xtask(&["build"]).exits_with(2);
    for said in [
        "src/a/build/tt-a.dockerfile:17: expands to more than 64 KiB: use shorter ARG values",
        "src/b/build/tt-b.dockerfile:1: nests '${…}' more than 64 levels deep",
    ] {
        assert!(output.error().contains(said), "{}", output.error());
    }
}

/// `lib` has links that lead anywhere, `far` is what some of them lead to, `user` gets
/// `lib` streamed, and `hooked` has it on disk.
fn linked() -> Workspace {
    let copy = "FROM scratch\nCOPY dependency/lib /lib/\n";
    let workspace = Workspace::new()
        .image("lib", ALL)
        .image("user", copy)
        .image("hooked", copy)
        .file("src/user/build/component.dep", "lib\n")
        .file("src/hooked/build/component.dep", "lib\n")
        .script("src/hooked/build/build-pre.sh", "#!/bin/sh\ncat src/hooked/dependency/lib/out\n")
        .file("src/lib/own", "own")
        .file("src/far/f", "far")
        .file("src/far/d/g", "g")
        .file("docs/text", "text");
    chmod(&workspace, "src/far/f", 0o755);
    for (path, target) in [
        ("src/lib/out", "../far/f"),
        ("src/lib/sub/docs", "../../../docs/text"),
        ("src/lib/dir", "../far/d"),
        ("src/far/d/near", "g"),
        ("src/far/d/back", "../f"),
        ("src/far/d/round", "../../lib"),
        ("src/lib/chain", "mid"),
        ("src/lib/mid", "../far/f"),
        ("src/lib/within", "own"),
        ("src/lib/sub/within", "../own"),
        ("src/lib/nothing", "../far/missing"),
        ("src/lib/up", ".."),
        ("src/lib/here", "../lib"),
        ("src/lib/null", "/dev/null"),
    ] {
        link(&workspace, path, target);
    }
    workspace
}

#[test]
fn links_that_leave_a_dependency_are_followed_in_it_and_nowhere_else() {
    let workspace = linked();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let tree = |image: &str| image_tree(&workspace.own(image));
    let (streamed, copied, own) = (tree("tt-user"), tree("tt-hooked"), tree("tt-lib"));
    let below = |tree: &BTreeMap<String, String>| {
        let lib = tree.iter().filter(|(path, _)| path.starts_with("lib/"));
        lib.map(|(path, what)| (path.clone(), what.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(below(&streamed), below(&copied));
    let link_to = |target: &str| format!("Symlink 777 0:0 Some({target:?}) ");
    for (path, expected) in [
        ("lib/out", "Regular 755 0:0 None far".to_owned()),
        ("lib/sub/docs", "Regular 644 0:0 None text".to_owned()),
        ("lib/dir", "Directory 755 0:0 None ".to_owned()),
        ("lib/dir/g", "Regular 644 0:0 None g".to_owned()),
        ("lib/dir/near", link_to("g")),
        ("lib/dir/back", "Regular 755 0:0 None far".to_owned()),
        ("lib/dir/round", link_to("../../lib")),
        ("lib/chain", link_to("mid")),
        ("lib/mid", "Regular 755 0:0 None far".to_owned()),
        ("lib/within", link_to("own")),
        ("lib/sub/within", link_to("../own")),
        ("lib/nothing", link_to("../far/missing")),
        ("lib/up", link_to("..")),
        ("lib/null", link_to("/dev/null")),
    ] {
        assert_eq!(streamed.get(path), Some(&expected), "{path}");
    }
    for (path, target) in [("out", "../far/f"), ("dir", "../far/d"), ("mid", "../far/f")] {
        assert_eq!(own[path], link_to(target), "{path}");
    }
    is_up_to_date(&workspace, &[]);

    workspace.write("docs/text", "other");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built_by_name(), ["hooked", "user"]);
    assert_eq!(found(&workspace, "tt-user", "lib/sub/docs"), "Regular 644 0:0 None other");
    assert_eq!(found(&workspace, "tt-hooked", "lib/sub/docs"), "Regular 644 0:0 None other");
    workspace.write("src/far/d/new", "new");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built_by_name(), ["hooked", "user"]);
    chmod(&workspace, "src/far/f", 0o644);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(found(&workspace, "tt-user", "lib/out"), "Regular 644 0:0 None far");
}

#[test]
fn folders_that_lead_to_each_other_come_to_an_end() {
    let workspace = Workspace::new()
        .image("user", "FROM scratch\nCOPY dependency /\n")
        .file("src/user/build/component.dep", "one\ntwo\n")
        .file("src/one/f", "1")
        .file("src/two/f", "2");
    link(&workspace, "src/one/to", "../two");
    link(&workspace, "src/two/to", "../one");
    link(&workspace, "src/two/self", "self");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let tree = image_tree(&workspace.own("tt-user"));
    assert_eq!(tree["one/to/f"], "Regular 644 0:0 None 2");
    assert!(tree["one/to/to"].starts_with("Symlink"), "{}", tree["one/to/to"]);
    assert!(tree["one/to/self"].starts_with("Symlink"), "{}", tree["one/to/self"]);
    assert_eq!(tree["two/to/f"], "Regular 644 0:0 None 1");
}

#[test]
fn what_hooks_made_is_the_same_from_the_store() {
    let workspace = Workspace::new()
        .image("made", "FROM scratch\nCOPY build /build\n")
        .script(
            "src/made/build/build-pre.sh",
            "#!/bin/sh\nmkdir src/made/generated && ln -s ../../../docs/text src/made/generated/l\n",
        )
        .file("src/made/build/inputs", "docs/**\n")
        .image("user", "FROM scratch\nCOPY dependency/made/generated /\nCOPY f /\n")
        .file("src/user/build/component.dep", "made\n")
        .file("src/user/f", "1")
        .file("docs/text", "text");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(found(&workspace, "tt-user", "l"), "Regular 644 0:0 None text");
    is_up_to_date(&workspace, &[]);
    workspace.write("src/user/f", "2");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built_by_name(), ["user"]);
    assert_eq!(found(&workspace, "tt-user", "l"), "Regular 644 0:0 None text");
}

#[test]
fn what_links_lead_to_counts_as_changed_since() {
    let workspace = linked().git();
    let commit = ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "first"];
    let git = Command::new("git").current_dir(workspace.root()).args(commit).status();
    assert!(git.unwrap().success());
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("src/far/d/g", "other");
    let output = workspace.xtask(&["build", "--since", "HEAD"]).exits_with(0);
    assert_eq!(output.built_by_name(), ["hooked", "user"]);
    is_up_to_date(&workspace, &[]);
}

#[test]
fn watch_looks_at_what_links_lead_to() {
    let workspace = Workspace::new()
        .image("user", "FROM scratch\nCOPY dependency/lib /\n")
        .file("src/user/build/component.dep", "lib\n")
        .file("src/lib/own", "own")
        .file("docs/text", "1")
        .file("more/text", "1")
        .file("other/text", "1");
    link(&workspace, "src/lib/docs", "../../docs/text");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    workspace.save("other/text", "2");
    workspace.save("docs/text", "2");
    running.wait_for("changed: docs/text → user");
    running.wait_for("watching: ");
    assert_eq!(found(&workspace, "tt-user", "docs"), "Regular 644 0:0 None 2");
    link(&workspace, "src/lib/more", "../../more");
    running.wait_for("changed: src/lib/more → ");
    running.wait_for("watching: ");
    workspace.save("more/text", "2");
    running.wait_for("changed: more/text → user");
    running.wait_for("watching: ");
    assert_eq!(found(&workspace, "tt-user", "more/text"), "Regular 644 0:0 None 2");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built(), ["user"; 4], "{}", output.stderr);
}

#[test]
fn dots_are_part_of_a_name_unless_a_flavor_follows() {
    let file = |path: &str, flavor: &str| {
        (format!("src/a/build/{path}"), format!("FROM scratch\nLABEL flavor={flavor}\nCOPY f /\n"))
    };
    let mut workspace = Workspace::new().file("src/a/f", "1");
    for (path, text) in [
        file("tt-x.y.z.dockerfile", "none"),
        file("tt-x.y.z.k8s.dockerfile", "k8s"),
        file("tt-python3.11.dockerfile", "none"),
        file("tt-python3.12.dockerfile", "none"),
    ] {
        workspace = workspace.file(&path, &text);
    }
    let _ = workspace.xtask(&["build", "--flavor", "k8s"]).exits_with(0);
    for image in ["tt-x.y.z", "tt-python3.11", "tt-python3.12"] {
        assert!(found(&workspace, image, "f").ends_with(" 1"), "{image}");
    }
    let wrong = |arguments: &[&str]| workspace.xtask(arguments).exits_with(2).error().to_owned();
    let config = "cluster: {docker-registry: {domain: 127.0.0.1:1, namespace: n, tag: t}}\n";
    workspace.write("config/services-configuration.yaml", config);
    for command in [
        &["build"][..],
        &["build", "-n"],
        &["watch"],
        &["graph"],
        &["context", "a"],
        &["push", "-c", "config"],
    ] {
        let error = wrong(&[command, &["--flavor", "k9s"]].concat());
        let said = "--flavor: unknown flavor 'k9s' (did you mean 'k8s'?): known flavors are common, k8s, yarn";
        assert!(error.contains(said), "{command:?}: {error}");
    }
    assert!(wrong(&["build", "--flavor", ""]).contains("unknown flavor ''"));
}

#[test]
fn hooks_that_a_shell_would_read_wrong_do_not_run() {
    let workspace = Workspace::new()
        .image("a", FILE)
        .file("src/a/f", "1")
        .image("b", FILE)
        .file("src/b/f", "1")
        .image("c", FILE)
        .file("src/c/f", "1")
        .script("src/a/build/build-pre.sh", "#!/bin/sh\ntouch ran\n")
        .script("src/b/build/build-post.sh", "#!/usr/bin/env -S bash -e\n\nmkdir src/b/x\r\n")
        .script("src/c/build/build-pre.sh", "\u{feff}#!/bin/sh\ntouch src/c/x\n");
    let before = workspace.tree();
    let output = workspace.xtask(&["build"]).exits_with(2);
    for said in [
        "src/b/build/build-post.sh:3: has Windows line endings (CRLF): save it with LF, and add \
         '*.sh text eol=lf' to .gitattributes",
        "src/c/build/build-pre.sh:1: begins with a byte order mark (BOM)",
    ] {
        assert!(output.error().contains(said), "{}", output.error());
    }
    assert_eq!(workspace.tree(), before);
}

#[test]
fn windows_line_ends_do_no_harm_to_what_is_no_shell() {
    let hook = "src/a/build/build-pre.sh";
    let workspace = Workspace::new()
        .image("a", FILE)
        .file("src/a/f", "1")
        .script(hook, "#!/bin/cat\none\r\ntwo\r\n");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("two"), "{}", output.stderr);
    // To the kernel they are a part of its name.
    let output = workspace.script(hook, "#!/bin/cat\r\none\n").xtask(&["build"]).exits_with(2);
    assert!(output.error().contains(&format!("{hook}:1: has Windows line endings")));
}

#[test]
fn what_is_no_file_is_named_and_waited_for_by_nobody() {
    type Make = fn(&Path);
    let folder: Make = |path| fs::create_dir(path).unwrap();
    let device: Make = |path| symlink("/dev/zero", path).unwrap();
    let linked_pipe: Make = |path| {
        pipe(&path.with_file_name("a-pipe"));
        symlink("a-pipe", path).unwrap();
    };
    let socket: Make = |path| drop(UnixListener::bind(path).unwrap());
    for (path, make, said) in [
        ("src/a/build/tt-b.dockerfile", linked_pipe, "is a symbolic link to a named pipe"),
        ("src/a/build/tt-b.dockerfile", socket, "is a socket"),
        ("src/a/build/tt-b.dockerfile", folder, "is a folder"),
        ("src/a/build/inputs", device, "is a symbolic link to a device"),
        ("src/a/build/inputs", pipe, "is a named pipe"),
        ("src/a/build/components.dep", device, "is a symbolic link to a device"),
        ("src/a/build/component.dep", folder, "is a folder"),
        ("src/a/build/build-pre.sh", pipe, "is a named pipe"),
        ("src/a/build/build-post.sh", folder, "is a folder"),
        ("src/a/build/tt-a.dockerfile.dockerignore", pipe, "is a named pipe"),
        ("src/a/.dockerignore", device, "is a symbolic link to a device"),
        ("config/services-configuration.yaml", pipe, "is a named pipe"),
    ] {
        let workspace = Workspace::new().image("a", ALL).file("config/x", "");
        make(&workspace.root().join(workspace.own(path)));
        let is_config = path.starts_with("config");
        let arguments = ["build", "-n", "-c", "config"];
        let output = workspace.xtask(if is_config { &arguments } else { &arguments[..2] });
        assert!(matches!(output.code, 1 | 2), "{path}: {}", output.stderr);
        let said = format!("{path}: {said}, not a regular file: replace it with a file");
        assert!(output.error().contains(&said), "{path}: {}", output.error());
    }
    let workspace = Workspace::new().image("a", ALL);
    let path = workspace.write("src/a/build/inputs", "");
    fs::File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
    let output = workspace.xtask(&["build"]).exits_with(2);
    assert!(output.error().contains("inputs: is larger than 16 MiB"), "{}", output.error());
}

#[test]
fn pipes_in_place_of_what_is_kept_from_run_to_run_cost_time_and_no_more() {
    let hook = "#!/bin/sh\necho hook\nmkdir -p src/a/made\ntouch src/a/made/pipe\n";
    let workspace = Workspace::new()
        .image("a", FILE)
        .file("src/a/f", "1")
        .script("src/a/build/build-pre.sh", hook);
    pipe(&workspace.root().join("pipe"));
    workspace.xtask(&["build"]).exits_with(0);
    let kept = workspace.root().join("target/xtask");
    let name = workspace.own("tt-a");
    let files = [format!("manifests/{name}"), format!("offers/{name}")];
    let files = files.iter().map(String::as_str);
    for file in files.chain(["images", "journal", "logs/a.log", "outputs/a"]) {
        let path = kept.join(file);
        drop(fs::remove_file(&path));
        pipe(&path);
        workspace.write("src/a/f", file);
        workspace.xtask(&["build"]).exits_with(0);
        workspace.xtask(&["build", "-n"]).exits_with(0);
    }
}

#[test]
fn a_line_without_end_is_cut_and_ends_with_its_hook() {
    let hook = |work: &str| format!("#!/bin/sh\ntouch target/started\n{work}\n");
    let workspace = Workspace::new().image("a", FILE).file("src/a/f", "1").file("target/x", "");
    let long = hook("head -c 60000000 /dev/zero | tr '\\0' x; echo; echo end");
    let workspace = workspace.script("src/a/build/build-pre.sh", &long);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("x … (59934464 more bytes)\n"));
    assert!(output.stderr.contains("end\n"));
    assert!(output.stderr.len() < 200_000, "{} bytes", output.stderr.len());

    fs::remove_file(workspace.root().join("target/started")).unwrap();
    let workspace =
        workspace.script("src/a/build/build-pre.sh", &hook("exec tr '\\0' x < /dev/zero"));
    let mut running = workspace.start(&["build"]);
    while !workspace.root().join("target/started").exists() && running.is_alive() {
        thread::sleep(Duration::from_millis(10));
    }
    running.interrupt();
    let _ = running.finish().exits_with(130);
}

/// Starts it as a user who may not read everything.
#[test]
fn lines_without_end_wait_for_their_reader_and_end_with_their_hook() {
    let hook = "#!/bin/sh\nyes | head -n 500000\ntouch target/written\nexec yes\n";
    let workspace = Workspace::new()
        .image("a", FILE)
        .file("src/a/f", "1")
        .file("target/x", "")
        .script("src/a/build/build-pre.sh", hook);
    for variables in [BTreeMap::new(), [("GITHUB_ACTIONS".to_owned(), "true".to_owned())].into()] {
        // What is written is read by nobody but a pipe, until the end.
        let mut running = workspace.start_with(&variables, &["build"]);
        if variables.is_empty() {
            running.wait_for("a | y");
        } else {
            running.wait_for("::group::a: in progress");
        }
        // Were the hook not held up, it would have written all of it by now.
        thread::sleep(Duration::from_secs(2));
        assert!(!workspace.root().join("target/written").exists(), "the hook was not held up");
        let status = fs::read_to_string(format!("/proc/{}/status", running.process())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kilobytes: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(kilobytes < 100_000, "{kilobytes} kB");
        running.interrupt();
        let _ = running.finish().exits_with(130);
    }
}

fn start_as_reader<'w>(workspace: &'w Workspace, arguments: &[&str]) -> Running<'w> {
    let lacks = "-dac_override,-dac_read_search";
    let is_root = rustix::process::getuid().is_root();
    let below: &[&str] = if is_root { &["setpriv", "--bounding-set", lacks] } else { &["env"] };
    workspace.run(workspace.command_below(below).args(arguments))
}

fn as_reader(workspace: &Workspace, arguments: &[&str]) -> Output {
    start_as_reader(workspace, arguments).finish()
}

/// `a` has a folder that may not be read; `b` gets it streamed, and `c` has hooks.
fn closed(dockerfile: &str) -> Workspace {
    let workspace = Workspace::new()
        .image("a", FILE)
        .image("b", dockerfile)
        .image("c", dockerfile)
        .file("src/b/build/component.dep", "a\n")
        .file("src/c/build/component.dep", "a\n")
        .script("src/c/build/build-pre.sh", "#!/bin/sh\nls src/c/dependency/a\n")
        .file("src/a/data/x", "secret")
        .file("src/c/data/x", "secret");
    for component in ["a", "b", "c"] {
        workspace.write(&format!("src/{component}/f"), "1");
    }
    for path in ["src/a/data", "src/c/data"] {
        chmod(&workspace, path, 0o000);
    }
    workspace
}

fn open(workspace: &Workspace) {
    for path in ["src/a/data", "src/c/data"] {
        chmod(workspace, path, 0o755);
    }
}

#[test]
fn a_folder_that_may_not_be_read_is_no_error_where_it_is_left_out() {
    let workspace = closed(ALL)
        .file("src/a/.dockerignore", "data\n")
        .file("src/b/.dockerignore", "dependency/a/data\n")
        .file("src/c/.dockerignore", "**/data\n");
    let output = as_reader(&workspace, &["build"]).exits_with(0);
    assert_eq!(output.built_by_name(), ["a", "b", "c"]);
    let output = as_reader(&workspace, &["build"]).exits_with(0);
    assert_eq!(output.built_by_name(), [""; 0]);
    assert_eq!(found(&workspace, "tt-c", "dependency/a/data"), "");
    assert!(found(&workspace, "tt-c", "dependency/a/f").ends_with(" 1"));
    open(&workspace);
}

#[test]
fn a_folder_that_may_not_be_read_is_an_error_where_it_would_be_sent() {
    let said = "cannot be read: make it readable, or exclude it in .dockerignore";
    let fails = |workspace: &Workspace, component: &str, path: &str| {
        let output = as_reader(workspace, &["build", "-k", "-s", component]).exits_with(1);
        let said = format!("{path}: {said}");
        assert!(output.stderr.contains(&said), "{component}: {}", output.stderr);
    };
    let workspace = closed(ALL).file("src/a/.dockerignore", "nothing\n");
    workspace.write("src/a/build/tt-a.dockerfile", ALL);
    fails(&workspace, "a", "src/a/data");
    workspace.write("src/a/.dockerignore", "data\n");
    // An exception may bring back what nobody can see.
    workspace.write("src/a/.dockerignore", "data\n!data/x\n");
    fails(&workspace, "a", "src/a/data");
    workspace.write("src/a/.dockerignore", "data\n");
    fails(&workspace, "b", "src/a/data");
    fails(&workspace, "c", "src/a/data");
    workspace.write("src/c/.dockerignore", "dependency/a/data\n");
    fails(&workspace, "c", "src/c/data");
    open(&workspace);
}

#[test]
fn watch_takes_no_folder_that_may_not_be_read_for_a_limit() {
    let workspace = closed("FROM scratch\nCOPY f dependency/a/f /\n");
    let mut running = start_as_reader(&workspace, &["watch"]);
    running.wait_for("watching: ");
    workspace.save("src/a/f", "2");
    running.wait_for("changed: src/a/f → ");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert!(!output.stderr.contains("cannot be watched"), "{}", output.stderr);
    open(&workspace);
}
