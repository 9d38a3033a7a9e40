//! What leaves for the engine: everything that the docker CLI sends, in bytes that are
//! the same for the same tree, and nothing half read.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tests::Workspace;
use tests::engine::{
    Proxy, archive_tree, cli_build, cli_build_with_buildkit, cli_with_buildkit, image_tree,
    major_version,
};
use tests::far::Far;

const ALL: &str = "FROM scratch\nCOPY . /\n";

/// One of each that a file system can hold, and names that few expect.
fn odd_files(root: &Path) {
    let own = root.join("src/a");
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, own.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    // Only root may make a device.
    let _ = mknodat(CWD, own.join("null"), FileType::CharacterDevice, mode, makedev(1, 3));
    fs::write(own.join("several names"), "one file\n").unwrap();
    fs::create_dir(own.join("below")).unwrap();
    fs::hard_link(own.join("several names"), own.join("below/name")).unwrap();
    fs::hard_link(own.join("several names"), own.join("a name")).unwrap();
    let sparse = File::create(own.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::create_dir_all(own.join("empty/emptier")).unwrap();
    symlink("/nowhere", own.join("dangling")).unwrap();
    symlink("../../outside", own.join("out of it")).unwrap();
    symlink("l".repeat(200), own.join("long link")).unwrap();
    for (folder, name) in [("d", 98), ("d", 99), ("d", 100), ("e/e", 251), ("f/f/f", 200)] {
        let folder = own.join(folder.replace(['d', 'e', 'f'], &"n".repeat(name)));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("n".repeat(name)), "deep").unwrap();
        symlink("n".repeat(name), folder.join("link")).unwrap();
    }
    let not_utf8 = own.join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&not_utf8).unwrap();
    fs::write(not_utf8.join(OsStr::from_bytes(b"\xff\xfe")), "odd").unwrap();
    symlink(OsStr::from_bytes(b"caf\xe9"), own.join("link to caf")).unwrap();
    fs::set_permissions(own.join("sparse"), fs::Permissions::from_mode(0o400)).unwrap();
}

#[test]
fn odd_files_are_sent_as_the_cli_sends_them_for_either_builder() {
    let workspace = Workspace::new().image("a", ALL);
    odd_files(workspace.root());
    let (folder, dockerfile) =
        (workspace.root().join("src/a"), workspace.own("build/tt-a.dockerfile"));
    // The BuildKit of newer engines takes no other names, from nobody.
    if major_version() >= 28 {
        fs::remove_dir_all(folder.join(OsStr::from_bytes(b"caf\xe9"))).unwrap();
        fs::remove_file(folder.join("link to caf")).unwrap();
    }
    let (ours, theirs) = (workspace.own("tt-a"), workspace.own("tt-cli"));

    let _ = workspace.xtask(&["build"]).exits_with(0);
    if let Some(cli) = cli_with_buildkit() {
        cli_build_with_buildkit(&cli, &folder, &dockerfile, &theirs, &[]);
        assert_eq!(image_tree(&ours), image_tree(&theirs));
    }

    // The docker CLI leaves sockets out for the classic builder, and so do we for both.
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    let classic = workspace.env("DOCKER_BUILDKIT", "0");
    let _ = classic.xtask(&["build", "--force"]).exits_with(0);
    cli_build(&folder, &dockerfile, &theirs, &[]);
    assert_eq!(image_tree(&ours), image_tree(&theirs));
    assert!(image_tree(&ours).values().any(|value| value.starts_with("Fifo")));
}

#[test]
fn the_same_tree_makes_the_same_stream_whenever_its_files_were_made() {
    let workspace = Workspace::new().image("a", ALL).file("src/a/b/one", "1");
    let own = workspace.root().join("src/a");
    let stream = |to: &str| {
        set_times(&own);
        let _ = workspace.xtask(&["context", "a", "--tar", to]).exits_with(0);
        fs::read(workspace.root().join(to)).unwrap()
    };
    for name in ["z", "a", "b/x/y", "b/two"] {
        workspace.write(&format!("src/a/{name}"), name);
    }
    let first = stream("1.tar");
    for name in ["b/two", "z", "b/x/y", "a"] {
        fs::remove_file(own.join(name)).unwrap();
        workspace.write(&format!("src/a/{name}"), name);
    }
    assert_eq!(archive_tree(&first).len(), 9);
    assert!(first == stream("2.tar"), "the streams differ");
    fs::write(own.join("a"), "b").unwrap();
    assert!(first != stream("3.tar"), "the streams are the same");
}

/// Gives all below a folder one time.
fn set_times(path: &Path) {
    if path.is_dir() {
        for child in fs::read_dir(path).unwrap() {
            set_times(&child.unwrap().path());
        }
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn what_an_older_record_does_not_know_is_not_taken_for_something_else() {
    let workspace = Workspace::new().image("a", ALL).file("src/a/first", "1");
    let build = || workspace.xtask(&["build"]).exits_with(0);
    let copy = |from: &str, to: &str| {
        let mut copy = Command::new("cp");
        copy.args(["-a", from, to]).current_dir(workspace.root());
        assert!(copy.status().expect("cp runs").success());
    };
    let second = |text: &str| {
        workspace.write("src/a/second", text);
        set_times(&workspace.root().join("src/a"));
        let _ = build();
        image_tree(&workspace.own("tt-a"))["second"].clone()
    };
    let _ = build();
    copy("target", "older");
    assert!(second("2").ends_with(" 2"));
    // As where a cache is put back.
    fs::remove_dir_all(workspace.root().join("target")).unwrap();
    copy("older", "target");
    assert!(second("3").ends_with(" 3"));
}

/// A file that is still on its way while the engine does not take it, and one behind it.
fn large_and_small() -> Workspace {
    let workspace = Workspace::new().image("a", ALL).file("src/a/small", "1");
    let large = File::create(workspace.root().join("src/a/large")).unwrap();
    large.set_len(64 << 20).unwrap();
    workspace
}

#[test]
fn a_file_that_changes_or_vanishes_while_it_is_sent_fails_that_build_by_name() {
    let proxy = Proxy::start();
    let workspace = large_and_small().env("DOCKER_HOST", &proxy.host());
    let small = workspace.root().join("src/a/small");
    let meanwhile = |act: &dyn Fn()| {
        proxy.hold();
        let build = workspace.start(&["build", "--force"]);
        proxy.next_build().expect("a build");
        act();
        proxy.release();
        build.finish().exits_with(1).stderr
    };
    let error = meanwhile(&|| fs::write(&small, "2").unwrap());
    assert!(error.contains("src/a/small: changed while it was sent"), "{error}");
    let error = meanwhile(&|| fs::write(&small, "longer").unwrap());
    assert!(error.contains("src/a/small: changed while it was sent"), "{error}");
    let error = meanwhile(&|| fs::remove_file(&small).unwrap());
    assert!(error.contains("src/a/small: No such file"), "{error}");
    assert!(!tests::engine::has_image(&workspace.own("tt-a")));
}

#[test]
fn a_watch_starts_over_if_a_file_changes_while_it_is_sent() {
    let proxy = Proxy::start();
    let workspace = large_and_small().env("DOCKER_HOST", &proxy.host());
    proxy.hold();
    let mut watch = workspace.start(&["watch"]);
    proxy.next_build().expect("a build");
    fs::write(workspace.root().join("src/a/small"), "2").unwrap();
    proxy.release();
    watch.wait_for("watching: ");
    watch.interrupt();
    let output = watch.finish().exits_with(0);
    assert!(!output.stderr.contains("changed while it was sent"), "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-a"))["small"].ends_with(" 2"));
}

#[test]
fn little_goes_to_an_engine_elsewhere() {
    let far = Far::start(None);
    let text = "as text does\n".repeat(1 << 18);
    let workspace = Workspace::new()
        .image("a", ALL)
        .file("src/a/large", &text)
        .env("DOCKER_HOST", far.host())
        .env("DOCKER_TLS_VERIFY", "");
    let build = |builder: &str| {
        let before = far.sent();
        workspace.xtask(&["build", "--force", "--builder", builder]).exits_with(0);
        assert!(image_tree(&workspace.own("tt-a"))["large"].ends_with(&text));
        far.sent() - before
    };
    let [little, all] = [text.len() as u64 / 10, text.len() as u64];
    assert!(build("classic") < little, "it goes compressed");
    assert!(build("buildkit") > all, "nothing is there yet");
    workspace.write("src/a/small", "1");
    assert!(build("buildkit") < little, "only what is new goes");
}
