//! `why` explains each image down to the file, and back to the edge that brings a change.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use expect_test::{Expect, expect};
use tests::Workspace;
use tests::engine::{docker, remove_image};

/// `d` is made from `c`, that from `b`, that from `a`; `user` takes the files of `data`.
fn tree() -> Workspace {
    Workspace::new()
        .image("a", "FROM scratch\nCOPY text script /\n")
        .file("src/a/text", "1")
        .script("src/a/script", "1")
        .image("b", "FROM tt-a\nLABEL b=b\n")
        .image("c", "FROM scratch\nCOPY --from=tt-b /text /\n")
        .image("d", "FROM tt-c\nLABEL d=d\n")
        .file("src/d/build/tt-d-debug.dockerfile", "# d\nFROM tt-d\nLABEL e=e\n")
        .image("user", "FROM scratch\nARG VERSION=0\nARG API_TOKEN=\nCOPY . /\n")
        .file("src/user/build/component.dep", "# files\ndata\n")
        .file("src/data/one", "1")
        .file("src/data/two", "1")
}

fn built() -> Workspace {
    let workspace = tree();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace
}

/// Compares without ids, digests and ages.
fn prints(workspace: &Workspace, arguments: &[&str], expected: &Expect) {
    let before = workspace.tree();
    let output = workspace.xtask(&[&["why"], arguments].concat()).exits_with(0);
    assert_eq!(workspace.tree(), before);
    expected.assert_eq(&masked(&output.stdout));
}

fn masked(text: &str) -> String {
    let trimmed = |word: &str| word.trim_matches([',', ':', '(', ')']).to_owned();
    let is_digest = |word: &str| {
        [8, 12].contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mask = |word: &str| {
        let inner = trimmed(word);
        if is_digest(&inner) { word.replace(&inner, "[HEX]") } else { word.to_owned() }
    };
    let line = |line: &str| {
        let line = line.split(' ').map(mask).collect::<Vec<_>>().join(" ");
        match (line.find("built "), line.find(" ago")) {
            (Some(start), Some(end)) => {
                format!("{}built [AGE]{}", &line[..start], &line[end + 4..])
            }
            (Some(start), None) if line.contains("[TIME]") => {
                format!("{}built [AGE]{}", &line[..start], line.split("[TIME]").nth(1).unwrap())
            }
            _ => line,
        }
    };
    text.lines().map(|it| line(it) + "\n").collect()
}

#[test]
fn an_image_that_is_up_to_date_says_when_and_from_what_it_was_built() {
    let workspace = built();
    prints(
        &workspace,
        &["tt-b"],
        &expect![[r#"
        tt-b (b): up to date
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/b/build/tt-b.dockerfile and 1 file
          from image tt-a [HEX], FROM in src/b/build/tt-b.dockerfile:1
          record: target/xtask/manifests/tt-b
    "#]],
    );
    prints(
        &workspace,
        &["user"],
        &expect![[r#"
        tt-user (user): up to date
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/user/build/tt-user.dockerfile and 4 files
          record: target/xtask/manifests/tt-user
    "#]],
    );
}

#[test]
fn a_changed_file_three_bases_away_is_followed_to_its_edge() {
    let workspace = built();
    workspace.write("src/a/text", "2");
    prints(
        &workspace,
        &["tt-d-debug"],
        &expect![[r#"
        tt-d-debug (d): stale
          tt-d will be rebuilt, FROM in src/d/build/tt-d-debug.dockerfile:2
            tt-c will be rebuilt, FROM in src/d/build/tt-d.dockerfile:1
              tt-b will be rebuilt, COPY --from in src/c/build/tt-c.dockerfile:2
                tt-a will be rebuilt, FROM in src/b/build/tt-b.dockerfile:1
                  src/a/text changed: contents [HEX] → [HEX]
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/d/build/tt-d-debug.dockerfile and 1 file
          from image tt-d [HEX], FROM in src/d/build/tt-d-debug.dockerfile:2
          record: target/xtask/manifests/tt-d-debug
    "#]],
    );
}

#[test]
fn a_component_with_several_images_explains_each() {
    let workspace = built();
    workspace.write("src/d/build/tt-d.dockerfile", "FROM tt-c\nLABEL d=e\n");
    prints(
        &workspace,
        &["d"],
        &expect![[r#"
            tt-d (d): stale
              src/d/build/tt-d.dockerfile changed: contents [HEX] → [HEX]
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/d/build/tt-d.dockerfile and 1 file
              from image tt-c [HEX], FROM in src/d/build/tt-d.dockerfile:1
              record: target/xtask/manifests/tt-d

            tt-d-debug (d): stale
              tt-d will be rebuilt, FROM in src/d/build/tt-d-debug.dockerfile:2
                src/d/build/tt-d.dockerfile changed: contents [HEX] → [HEX]
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/d/build/tt-d-debug.dockerfile and 1 file
              from image tt-d [HEX], FROM in src/d/build/tt-d-debug.dockerfile:2
              record: target/xtask/manifests/tt-d-debug
        "#]],
    );
    prints(
        &workspace,
        &["src/d/", "tt-a"],
        &expect![[r#"
            tt-a (a): up to date
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/a/build/tt-a.dockerfile and 3 files
              record: target/xtask/manifests/tt-a

            tt-d (d): stale
              src/d/build/tt-d.dockerfile changed: contents [HEX] → [HEX]
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/d/build/tt-d.dockerfile and 1 file
              from image tt-c [HEX], FROM in src/d/build/tt-d.dockerfile:1
              record: target/xtask/manifests/tt-d

            tt-d-debug (d): stale
              tt-d will be rebuilt, FROM in src/d/build/tt-d-debug.dockerfile:2
                src/d/build/tt-d.dockerfile changed: contents [HEX] → [HEX]
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/d/build/tt-d-debug.dockerfile and 1 file
              from image tt-d [HEX], FROM in src/d/build/tt-d-debug.dockerfile:2
              record: target/xtask/manifests/tt-d-debug
        "#]],
    );
}

#[test]
fn files_and_build_args_have_their_old_and_new_values() {
    let workspace = built();
    workspace.write("src/data/one", "2");
    fs::remove_file(workspace.root().join("src/data/two")).unwrap();
    workspace.write("src/data/three", "1");
    workspace.write("src/user/own", "1");
    fs::set_permissions(workspace.root().join("src/a/script"), fs::Permissions::from_mode(0o600))
        .unwrap();
    prints(
        &workspace,
        &["user", "a"],
        &expect![[r#"
        tt-a (a): stale
          src/a/script changed: mode 755 → 600
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/a/build/tt-a.dockerfile and 3 files
          record: target/xtask/manifests/tt-a

        tt-user (user): stale
          src/user/own added: file 644 [HEX]
          src/data/one changed: contents [HEX] → [HEX], component.dep in src/user/build/component.dep:2
          src/data/three added: file 644 [HEX], component.dep in src/user/build/component.dep:2
          src/data/two removed: was file 644 [HEX], component.dep in src/user/build/component.dep:2
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/user/build/tt-user.dockerfile and 4 files
          record: target/xtask/manifests/tt-user
    "#]],
    );
    let arguments = ["--build-arg", "VERSION=1", "--build-arg", "API_TOKEN=hidden-1"];
    let _ = workspace.xtask(&[&["build"][..], &arguments].concat()).exits_with(0);
    let workspace = workspace.secret("hidden");
    let arguments = ["user", "--build-arg", "VERSION=2", "--build-arg", "API_TOKEN=hidden-2"];
    prints(
        &workspace,
        &arguments,
        &expect![[r#"
        tt-user (user): stale
          --build-arg API_TOKEN changed: its values are not recorded
          --build-arg VERSION changed: '1' → '2'
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/user/build/tt-user.dockerfile and 5 files
          record: target/xtask/manifests/tt-user
    "#]],
    );
    prints(
        &workspace,
        &["user"],
        &expect![[r#"
        tt-user (user): stale
          --build-arg API_TOKEN removed: its values are not recorded
          --build-arg VERSION removed: was '1'
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/user/build/tt-user.dockerfile and 5 files
          record: target/xtask/manifests/tt-user
    "#]],
    );
    let manifest = workspace.root().join(workspace.own("target/xtask/manifests/tt-user"));
    let manifest = fs::read(manifest).unwrap();
    assert!(!manifest.windows(6).any(|window| window == b"hidden"));
}

#[test]
fn what_the_engine_lost_and_hooks_decide_is_said() {
    let workspace = built().script("src/data/build/build-pre.sh", "#!/bin/sh\n:\n");
    remove_image(&workspace.own("tt-d-debug"));
    prints(
        &workspace,
        &["tt-d-debug", "user"],
        &expect![[r#"
            tt-d-debug (d): stale
              image missing in the engine

            tt-user (user): undecided
              decided after data's hooks
              hooks of data: hook inputs undeclared: decided after build-pre.sh, component.dep in src/user/build/component.dep:2
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/user/build/tt-user.dockerfile and 4 files
              record: target/xtask/manifests/tt-user
        "#]],
    );
    let _ = workspace.xtask(&["build"]).exits_with(0);
    fs::remove_dir_all(workspace.root().join("target/xtask")).unwrap();
    workspace.write("src/a/text", "3");
    prints(
        &workspace,
        &["b"],
        &expect![[r#"
            tt-b (b): stale
              image has another fingerprint ([HEX]), of whose inputs there is no record
              tt-a will be rebuilt, FROM in src/b/build/tt-b.dockerfile:1
                image has another fingerprint ([HEX]), of whose inputs there is no record
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/b/build/tt-b.dockerfile
              from image tt-a [HEX], FROM in src/b/build/tt-b.dockerfile:1
              record: none in target/xtask/manifests/tt-b
        "#]],
    );
    docker(&["tag", &workspace.own("tt-a"), &workspace.own("tt-b")]);
    prints(
        &workspace,
        &["b"],
        &expect![[r#"
            tt-b (b): stale
              image has another fingerprint ([HEX]), of whose inputs there is no record
              tt-a will be rebuilt, FROM in src/b/build/tt-b.dockerfile:1
                image has another fingerprint ([HEX]), of whose inputs there is no record
              built [AGE]: image [HEX], fingerprint [HEX]
              from src/b/build/tt-b.dockerfile
              record: none in target/xtask/manifests/tt-b
        "#]],
    );
}

#[test]
fn a_moved_base_has_its_old_and_new_id() {
    let workspace = Workspace::new().with_box().image("a", "FROM tt-box\nLABEL a=b\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let workspace = workspace.with_other_box();
    prints(
        &workspace,
        &["a"],
        &expect![[r#"
        tt-a (a): stale
          base tt-box moved: [DIGEST] → [DIGEST], FROM in src/a/build/tt-a.dockerfile:1
          built [AGE]: image [HEX], fingerprint [HEX]
          from src/a/build/tt-a.dockerfile and 1 file
          from image tt-box [HEX], FROM in src/a/build/tt-a.dockerfile:1
          record: target/xtask/manifests/tt-a
    "#]],
    );
}

#[test]
fn it_says_what_build_would_do() {
    let workspace = built();
    workspace.write("src/b/build/tt-b.dockerfile", "FROM tt-a\nLABEL b=c\n");
    let planned = workspace.xtask(&["build", "-n"]).exits_with(0).stdout;
    for image in ["a", "b", "c", "d", "user"] {
        let why = workspace.xtask(&["why", &format!("tt-{image}")]).exits_with(0).stdout;
        let state = format!("tt-{image} ({image}): ");
        let state = why.lines().next().unwrap().strip_prefix(&state).unwrap();
        let row = planned.lines().find(|row| row.contains(&format!("tt-{image}  "))).unwrap();
        assert!(row.contains(state), "{why}{planned}");
    }
}

#[test]
fn an_unknown_name_is_an_error_with_the_nearest() {
    let workspace = tree();
    let fails = |arguments: &[&str], expected: &Expect| {
        let output = workspace.xtask(&[&["why"], arguments].concat()).exits_with(2);
        expected.assert_eq(output.error());
    };
    fails(
        &["usre", "tt-d-debgu", "x*"],
        &expect![[r#"
            error: no component or image 'tt-d-debgu' under src/ (did you mean 'tt-d-debug'?)
            no component or image 'usre' under src/ (did you mean 'user'?)
            no component or image matches 'x*'
        "#]],
    );
    fails(
        &["data"],
        &expect![[r#"
        error: 'data' builds no images
    "#]],
    );
    fails(
        &["docs/x"],
        &expect![[r#"
        error: 'docs/x' leads to no component: these are the folders in [ROOT]/src
    "#]],
    );
}
