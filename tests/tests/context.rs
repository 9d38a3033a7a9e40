//! What `context` shows, and that this is what engines receive.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use expect_test::expect;
use tests::Workspace;
use tests::engine::{archive_tree, cli_build, image_tree};

fn web() -> Workspace {
    Workspace::new()
        .image("web", "FROM scratch\nCOPY . /all/\n")
        .file("src/web/build/component.dep", "assets\n")
        .file("src/web/.dockerignore", "# what others make\nnode_modules\n**/*.log\n!keep.log\n")
        .file("src/web/node_modules/a/index.js", "many words")
        .file("src/web/node_modules/b/index.js", "and more")
        .file("src/web/app/main.js", "main")
        .file("src/web/app/x.log", "log")
        .file("src/web/keep.log", "kept")
        .file("src/assets/page.html", "page")
        .file("src/assets/page.log", "log")
}

#[test]
fn files_folders_and_what_is_left_out_are_shown() {
    let output = web().xtask(&["context", "web"]).exits_with(0);
    assert_eq!(output.stderr, "");
    expect![[r#"
        tt-web (src/web/build/tt-web.dockerfile): 6 files, 96 B

              51 B  0644  .dockerignore
              26 B  0644  build/tt-web.dockerfile
               7 B  0644  build/component.dep
               4 B  0644  app/main.js
               4 B  0644  keep.log
               4 B  0644  dependency/assets/page.html

        by folder
              55 B  .  2 files
              33 B  build  2 files
               4 B  app  1 file
               4 B  dependency/assets  1 file

        excluded
              18 B  src/web/.dockerignore:2  2 files: node_modules/a/index.js …
               6 B  src/web/.dockerignore:3  2 files: app/x.log …
    "#]]
    .assert_eq(&output.stdout);
}

#[test]
fn what_no_instruction_can_read_is_shown() {
    let workspace = web().image("web", "FROM scratch\nCOPY app dependency/assets /\n");
    let output = workspace.xtask(&["context", "web"]).exits_with(0);
    expect![[r#"
        tt-web (src/web/build/tt-web.dockerfile): 4 files, 101 B

              51 B  0644  .dockerignore
              42 B  0644  build/tt-web.dockerfile
               4 B  0644  app/main.js
               4 B  0644  dependency/assets/page.html

        by folder
              51 B  .  1 file
              42 B  build  1 file
               4 B  app  1 file
               4 B  dependency/assets  1 file

        excluded
              18 B  src/web/.dockerignore:2  2 files: node_modules/a/index.js …
               6 B  src/web/.dockerignore:3  2 files: app/x.log …
              11 B  not read by any instruction  2 files: build/component.dep …
    "#]]
    .assert_eq(&output.stdout);
    let output = workspace.xtask(&["context", "web", "--whole-context"]).exits_with(0);
    assert!(output.stdout.contains("keep.log"), "{}", output.stdout);
}

#[test]
fn a_folder_that_is_most_of_it_gets_a_word() {
    let large = "x".repeat(12 << 20);
    let workspace = web().file("src/web/data/deep/dump", &large);
    let output = workspace.xtask(&["context", "web"]).exits_with(0);
    let advice = output.stdout.lines().last().unwrap();
    expect!["hint: data/deep/ is 12.0 MiB of 12.0 MiB; if the image does not need it, add 'data/deep' to src/web/.dockerignore"].assert_eq(advice);
}

#[test]
fn hooks_that_would_add_something_are_named() {
    let workspace = web().script("src/assets/build/build-post.sh", "#!/bin/sh\n");
    let output = workspace.xtask(&["context", "web"]).exits_with(0);
    let note = output.stdout.lines().last().unwrap();
    expect!["note: files that these hooks would add are not listed: src/assets/build/build-post.sh; use --hooks to run them"]
        .assert_eq(note);
}

#[test]
fn what_cannot_be_shown_is_said() {
    let workspace = web().file("src/web/build/tt-web-debug.dockerfile", "FROM tt-web\n");
    let says = |arguments: &[&str], expected: &expect_test::Expect| {
        let output = workspace.xtask(&[&["context"], arguments].concat()).exits_with(2);
        expected.assert_eq(&output.stderr);
    };
    says(
        &["assets"],
        &expect![[r#"
        error: 'assets' builds no images, so it has no build context
    "#]],
    );
    says(
        &["web", "--image", "tt-api"],
        &expect![[r#"
        error: 'web' has no image 'tt-api': its images are tt-web, tt-web-debug
    "#]],
    );
    says(
        &["web", "--tar", "x.tar"],
        &expect![[r#"
        error: --tar writes a single context: add --image with one of tt-web, tt-web-debug
    "#]],
    );
    says(
        &["wep"],
        &expect![[r#"
        error: no component 'wep' under src/ (did you mean 'web'?)
    "#]],
    );
}

#[test]
fn the_archive_is_what_engines_receive() {
    let workspace = web_with_odd_files();
    let _ = workspace.xtask(&["context", "web", "--tar", "web.tar"]).exits_with(0);
    let sent = archive_tree(&fs::read(workspace.root().join("web.tar")).unwrap());
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(sent, in_image(&workspace.own("tt-web")));

    // The docker CLI knows of no dependencies.
    fs::remove_file(workspace.root().join("src/web/build/component.dep")).unwrap();
    let _ = workspace.xtask(&["context", "web", "--tar", "web.tar"]).exits_with(0);
    let sent = archive_tree(&fs::read(workspace.root().join("web.tar")).unwrap());
    let name = workspace.own("tt-web-cli");
    let dockerfile = workspace.own("build/tt-web.dockerfile");
    cli_build(&workspace.root().join("src/web"), &dockerfile, &name, &[]);
    assert_eq!(sent, in_image(&name));
}

#[test]
fn with_hooks_the_archive_is_what_engines_receive_too() {
    let workspace = web()
        .script(
            "src/assets/build/build-post.sh",
            "#!/bin/sh\nmkdir -p src/assets/generated\n\
                 echo made > src/assets/generated/made.txt\n",
        )
        .script(
            "src/web/build/build-pre.sh",
            "#!/bin/sh\nmkdir -p src/web/generated\n\
                 ls src/web/dependency/assets > src/web/generated/list.txt\n",
        )
        .script("src/web/build/build-post.sh", "#!/bin/sh\ntouch ran\n");
    let arguments = ["context", "web", "--hooks", "--tar", "web.tar"];
    let output = workspace.xtask(&arguments).exits_with(0);
    assert!(!output.stdout.contains("note:"), "{}", output.stdout);
    assert!(!tests::engine::has_image(&workspace.own("tt-web")));
    assert!(!workspace.root().join("ran").exists());
    assert!(!workspace.root().join("src/web/generated").exists());
    let sent = archive_tree(&fs::read(workspace.root().join("web.tar")).unwrap());
    assert!(sent["generated/list.txt"].contains("page.html"), "{sent:?}");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(sent, in_image(&workspace.own("tt-web")));
}

fn web_with_odd_files() -> Workspace {
    let workspace = web().script("src/web/app/run.sh", "#!/bin/sh\n");
    let root = workspace.root().join("src/web");
    symlink("main.js", root.join("app/link")).unwrap();
    symlink("/nowhere", root.join("app/broken")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    workspace.write(&format!("src/web/{0}/{0}/x", "long".repeat(40)), "deep");
    workspace
}

/// What lies under `/all` in an image.
fn in_image(name: &str) -> BTreeMap<String, String> {
    let tree = image_tree(name).into_iter();
    let below =
        tree.filter_map(|(path, value)| Some((path.strip_prefix("all/")?.to_owned(), value)));
    below.collect()
}
