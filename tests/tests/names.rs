//! Components are named on the command line: by name, by glob, or by a path that a shell
//! completes; with `--select` or without.

use std::os::unix::fs::symlink;
use std::process::Command;

use expect_test::{Expect, expect};
use tests::registry::Registry;
use tests::{Output, Workspace};

const IMAGE: &str = "FROM scratch\nLABEL a=b\n";

fn tree() -> Workspace {
    Workspace::new()
        .image("auth-api", IMAGE)
        .image("auth-db", IMAGE)
        .image("web", "FROM tt-auth-api\nLABEL c=d\n")
        .file("src/組件/build/tt-cjk.dockerfile", IMAGE)
        .file("src/a[1]/build/tt-a.dockerfile", IMAGE)
        .file("src/data/one", "1")
        .file("docs/one", "1")
}

/// The components of a plan, in alphabetical order.
fn planned(output: &Output) -> String {
    let rows = output.stdout.lines().filter(|line| line.contains("  "));
    let mut names: Vec<&str> = rows.filter_map(|row| row.split_whitespace().next()).collect();
    names.sort_unstable();
    names.join(" ")
}

#[test]
fn names_globs_and_paths_select_components() {
    let workspace = tree();
    for (words, components) in [
        (&["web", "auth-db"][..], "auth-api auth-db web"),
        (&["auth-*"], "auth-api auth-db"),
        (&["auth-{api,db}"], "auth-api auth-db"),
        (&["-s", "auth-{api,db},組件"], "auth-api auth-db 組件"),
        (&["-s", "web", "auth-db"], "auth-api auth-db web"),
        (&["auth-db", "-s", "web"], "auth-api auth-db web"),
        (&["-s", "web,auth-db", "--force"], "auth-api auth-db web"),
        (&["-s=auth-db", "組?"], "auth-db 組件"),
        (&["*"], "a[1] auth-api auth-db web 組件"),
        (&["a[1]"], "a[1]"),
        (&["src/web/"], "auth-api web"),
        (&["src/web/build"], "auth-api web"),
        (&["./src/web", "src/組件/"], "auth-api web 組件"),
        (&["-s", "src/auth-db/,src/組件"], "auth-db 組件"),
        (&["src/auth-*"], "auth-api auth-db"),
        (&["src/a[1]/"], "a[1]"),
    ] {
        let output = workspace.xtask(&[&["build", "-n"], words].concat()).exits_with(0);
        assert_eq!(planned(&output), components, "{words:?}");
    }
    for (folder, word) in [
        ("src", "web/"),
        ("src/web", "."),
        ("src/web", "build/"),
        ("src/web/build", ".."),
        ("docs", "src/web/"),
        ("docs", "../src/web"),
    ] {
        let output = workspace.xtask_in(folder, &["build", "-n", word]).exits_with(0);
        assert_eq!(planned(&output), "auth-api web", "{word} in {folder}");
    }
    let link = workspace.root().join("link");
    symlink(workspace.root(), &link).unwrap();
    let through = link.join("src/web/").display().to_string();
    let output = workspace.xtask(&["--root", "link", "build", "-n", &through]).exits_with(0);
    assert_eq!(planned(&output), "auth-api web");
}

#[test]
fn every_command_takes_them() {
    let workspace = tree()
        .script("src/auth-db/build/build-pre.sh", "#!/bin/sh\n:\n")
        .file("src/auth-db/build/inputs", "docs/one\n");
    let prints = |arguments: &[&str], expected: &Expect| {
        expected.assert_eq(&workspace.xtask(arguments).exits_with(0).stdout);
    };
    prints(
        &["graph", "src/web/", "auth-d?"],
        &expect![[r#"
            auth-db [tt-auth-db]
            web [tt-web]
            └── auth-api [tt-auth-api]  FROM
        "#]],
    );
    prints(
        &["graph", "--between", "src/web/", "auth-api"],
        &expect![[r#"
            web [tt-web]
            └── auth-api [tt-auth-api]  FROM
        "#]],
    );
    let output = workspace.xtask(&["context", "auth-*", "src/web"]).exits_with(0);
    for image in ["tt-auth-api", "tt-auth-db", "tt-web"] {
        assert!(output.stdout.contains(image), "{}", output.stdout);
    }
    let output = workspace.xtask(&["context", "auth-*", "--hooks"]).exits_with(0);
    assert!(output.stdout.contains("tt-auth-api") && output.stdout.contains("tt-auth-db"));
    let _ = workspace.xtask(&["inputs", "src/auth-db/", "--check"]).exits_with(0);
    let _ = workspace.xtask(&["inputs", "*-db", "--check"]).exits_with(0);
    let mut watch = workspace.start(&["watch", "src/auth-api/", "組*"]);
    watch.wait_for("watching: 2 components");
    watch.interrupt();
    let output = watch.finish();
    assert_eq!(output.built_by_name(), ["auth-api", "組件"], "{}", output.stderr);
}

#[test]
fn a_push_takes_components_and_images() {
    let registry = Registry::start();
    let config = format!(
        "cluster:\n  docker-registry:\n    domain: {}\n    namespace: some/where\n    tag: one\n",
        registry.address()
    );
    let workspace = tree()
        .replace(registry.address(), "[REGISTRY]")
        .file("src/web/build/tt-web-debug.dockerfile", "FROM tt-web\nLABEL e=f\n")
        .file("config/services-configuration.yaml", &config);
    let _ = workspace.xtask(&["build", "web", "auth-*"]).exits_with(0);
    let pushed = |words: &[&str]| {
        let arguments = [&["push", "-c", "config"], words].concat();
        let output = workspace.xtask(&arguments).exits_with(0);
        let image = |line: &str| {
            let rest = line.strip_prefix("[REGISTRY]/some/where/")?;
            Some(rest.split(':').next()?.to_owned())
        };
        let mut images: Vec<String> = output.stdout.lines().filter_map(image).collect();
        images.sort();
        images.join(" ")
    };
    assert_eq!(pushed(&["src/web/"]), "tt-web tt-web-debug");
    assert_eq!(pushed(&["-i", "tt-web"]), "tt-web");
    assert_eq!(pushed(&["auth-*", "-i", "tt-web"]), "tt-auth-api tt-auth-db tt-web");
    assert_eq!(pushed(&["-i", "tt-{web,auth-d}*"]), "tt-auth-db tt-web tt-web-debug");
    let fails = |words: &[&str], said: &str| {
        let arguments = [&["push", "-c", "config"], words].concat();
        assert_eq!(workspace.xtask(&arguments).exits_with(2).error(), said);
    };
    fails(
        &["tt-web-debug"],
        "error: no component 'tt-web-debug' under src/: it is an image of component 'web'\n",
    );
    fails(&["-i", "tt-wob*"], "error: no image matches 'tt-wob*' (did you mean 'tt-web'?)\n");
    fails(&["data"], "error: no images to push: data builds none\n");
}

#[test]
fn what_selects_nothing_is_an_error_that_names_the_nearest() {
    let workspace = tree();
    let fails = |arguments: &[&str], expected: &Expect| {
        expected.assert_eq(workspace.xtask(arguments).exits_with(2).error());
    };
    fails(
        &["build", "auht-*", "wob", "src/wbe/", "tt-web"],
        &expect![[r#"
        error: no component 'tt-web' under src/: it is an image of component 'web'
        no component 'wbe' under src/ (did you mean 'web'?)
        no component 'wob' under src/ (did you mean 'web'?)
        no component matches 'auht-*' (did you mean 'auth-api'?)
    "#]],
    );
    fails(
        &["build", "docs/"],
        &expect![[r#"
        error: 'docs/' leads to no component: these are the folders in [ROOT]/src
    "#]],
    );
    fails(
        &["build", "src/"],
        &expect![[r#"
        error: 'src/' leads to no component: these are the folders in [ROOT]/src
    "#]],
    );
    fails(
        &["build", "組体"],
        &expect![[r#"
        error: no component '組体' under src/ (did you mean '組件'?)
    "#]],
    );
    fails(
        &["build", "a["],
        &expect![[r#"
            error: 'a[' is not a valid glob: '[' has no matching ']'
        "#]],
    );
    fails(
        &["build", "{web"],
        &expect![[r#"
            error: '{web' is not a valid glob: a '{' has no '}'
        "#]],
    );
    fails(
        &["build", "--since", "HEAD", "web"],
        &expect![[r#"
        error: the argument '--since <REV>' cannot be used with '[COMPONENT]...'

        Usage: cargo xtask build --since <REV> [COMPONENT]...

        For more information, try '--help'.
    "#]],
    );
    fails(
        &["graph", "wob"],
        &expect![[r#"
        error: no component 'wob' under src/ (did you mean 'web'?)
    "#]],
    );
    fails(
        &["graph", "--between", "auht-*", "web"],
        &expect![[r#"
        error: no component matches 'auht-*' (did you mean 'auth-api'?)
    "#]],
    );
    fails(
        &["context", "nothing*"],
        &expect![[r#"
        error: no component matches 'nothing*'
    "#]],
    );
    fails(
        &["context", "auth-*", "--image", "tt-wbe"],
        &expect![[r#"
        error: 'auth-api', 'auth-db' have no image 'tt-wbe': their images are tt-auth-api, tt-auth-db
    "#]],
    );
    fails(
        &["context", "auth-*", "--tar", "file"],
        &expect![[r#"
        error: --tar writes a single context: add --image with one of tt-auth-api, tt-auth-db
    "#]],
    );
    fails(
        &["inputs", "auth-*"],
        &expect![[r#"
        error: 'auth-*' matches several components: name one of auth-api, auth-db
    "#]],
    );
}

#[test]
fn a_name_that_is_no_utf8_is_no_name_of_a_component() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let workspace = tree();
    let mut command: Command = workspace.command_below(&["env"]);
    let output = workspace.run(command.arg("build").arg(OsStr::from_bytes(b"\xff"))).finish();
    let output = output.exits_with(2);
    assert!(output.error().contains("invalid UTF-8"), "{}", output.stderr);
}
