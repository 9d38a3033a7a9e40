//! `export bake DIR`: the bake file and the contexts. What Bake makes of them is in builders.rs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use expect_test::expect;
use tests::Workspace;

/// A folder outside of the workspace.
struct Out {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Out {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("out"), _dir: dir }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The bake file, without what differs from run to run.
    fn bake_file(&self, workspace: &Workspace) -> String {
        let text = fs::read_to_string(self.path.join("docker-bake.json")).unwrap();
        let text = text
            .replace(&workspace.own("tt-"), "tt-")
            .replace(workspace.root().to_str().unwrap(), "[ROOT]");
        let (mut shown, mut digits) = (String::new(), String::new());
        for letter in text.chars() {
            if letter.is_ascii_hexdigit() {
                digits.push(letter);
                continue;
            }
            shown.push_str(if digits.len() >= 12 { "[DIGEST]" } else { &digits });
            digits.clear();
            shown.push(letter);
        }
        shown
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Two images, for which everything is set that Bake has a key for.
fn with_settings() -> Workspace {
    Workspace::new()
        .image("base", "FROM scratch AS one\nCOPY f /\nFROM one\nCOPY f /g\n")
        .file("src/base/f", "1")
        .file("src/base/unread", "1")
        .image("web.v2", "FROM base AS a\nFROM tt-base:latest\nCOPY --from=files x /\nCOPY . /\n")
        .file("src/web.v2/own", "1")
        .file("files/x", "1")
        .file("files/unread", "1")
        .file(
            "xtask.toml",
            "[image.tt-base]\ntarget = \"one\"\nsecrets = [\"id=key,src=key\", \"id=token,env=TOKEN\"]\n\
             labels = { who = \"$${{me}}\" }\nextra-hosts = { h = \"10.0.0.1\" }\n\
             cache-to = [\"type=gha,mode=max\"]\nnetwork = \"none\"\nssh = [\"default\"]\n\
             [image.\"tt-web.v2\"]\nplatforms = [\"linux/amd64\"]\nno-cache-filter = [\"a\"]\n\
             attest = [\"type=sbom\"]\n\
             [image.\"tt-web.v2\".contexts]\nbase = \"target:tt-base\"\nfiles = \"files\"\n",
        )
        .file("key", "secret")
}

#[test]
fn a_bake_file_has_what_is_set_for_each_image_and_links_them() {
    let workspace = with_settings();
    let out = Out::new();
    let output = workspace.xtask(&["export", "bake", out.path()]).exits_with(0);
    assert!(output.stdout.ends_with(": 2 images. There, run docker buildx bake\n"));
    assert!(output.stderr.contains("2 exported in"), "{}", output.stderr);
    expect![[r#"
        {
          "group": {
            "default": {
              "targets": [
                "tt-base",
                "tt-web_v2"
              ]
            }
          },
          "target": {
            "tt-base": {
              "attest": [
                "type=provenance,disabled=true"
              ],
              "cache-to": [
                "type=gha,mode=max,scope=tt-base"
              ],
              "context": "contexts/tt-base-[DIGEST]",
              "dockerfile": "build/tt-base.dockerfile",
              "extra-hosts": {
                "h": "10.0.0.1"
              },
              "labels": {
                "org.openpai.build.base-contents": "",
                "org.openpai.build.bases": "",
                "org.openpai.build.exported": "[DIGEST]",
                "org.openpai.build.fingerprint": "[DIGEST]",
                "who": "$${me}"
              },
              "network": "none",
              "output": [
                "type=docker"
              ],
              "secret": [
                "id=key,src=[ROOT]/key",
                "id=token,env=TOKEN"
              ],
              "ssh": [
                "default"
              ],
              "tags": [
                "tt-base"
              ],
              "target": "one"
            },
            "tt-web_v2": {
              "attest": [
                "type=sbom",
                "type=provenance,disabled=true"
              ],
              "context": "contexts/tt-web_v2-[DIGEST]",
              "contexts": {
                "base": "target:tt-base",
                "files": "contexts/tt-web_v2_files-[DIGEST]",
                "tt-base": "target:tt-base"
              },
              "dockerfile": "build/tt-web.v2.dockerfile",
              "labels": {
                "org.openpai.build.base-contents": "",
                "org.openpai.build.bases": "tt-base=fingerprint:[DIGEST] tt-base:latest=fingerprint:[DIGEST]",
                "org.openpai.build.exported": "[DIGEST]",
                "org.openpai.build.fingerprint": "[DIGEST]"
              },
              "no-cache-filter": [
                "a"
              ],
              "output": [
                "type=docker"
              ],
              "platforms": [
                "linux/amd64"
              ],
              "tags": [
                "tt-web.v2"
              ]
            }
          }
        }
    "#]].assert_eq(&out.bake_file(&workspace));
    // What `COPY . /` reads has the folder of the dependency in it.
    let names = [
        "docker-bake.json",
        "f",
        "f",
        "own",
        "tt-base.dockerfile",
        "tt-base.dockerfile",
        "tt-web.v2.dockerfile",
        "unread",
        "unread",
        "x",
    ];
    assert_eq!(files(&out.path), names.map(|name| workspace.own(name)));
}

#[test]
fn hooks_run_first_and_their_folders_are_gone_afterwards() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY generated/f dependency/b/f /\n")
        .file("src/a/build/component.dep", "b\n")
        .script("src/a/build/build-pre.sh", "mkdir src/a/generated && echo 1 > src/a/generated/f\n")
        .image("b", "FROM scratch\nCOPY f /\n")
        .file("src/b/f", "2");
    let out = Out::new();
    let _ = workspace.xtask(&["export", "bake", out.path(), "a"]).exits_with(0);
    assert!(!workspace.root().join("src/a/generated").exists());
    assert!(!workspace.root().join("src/a/dependency").exists());
    // The dependency is not built, either.
    let plan = workspace.xtask(&["build", "--dry-run"]).exits_with(0);
    assert!(plan.stdout.contains("2 of 2 images would be built"), "{}", plan.stdout);
    let all = ["docker-bake.json", "f", "f", "f", "tt-a.dockerfile", "tt-b.dockerfile"];
    assert_eq!(files(&out.path), all.map(|name| workspace.own(name)));
}

#[test]
fn what_cannot_be_exported_is_refused_and_leaves_nothing() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY f /\n")
        .file("src/a/f", "1")
        .script(
            "src/a/build/build-post.sh",
            "mkdir src/a/generated && echo 1 > src/a/generated/f\n",
        )
        .image("b", "FROM scratch\nCOPY dependency/a/generated/f /\n")
        .file("src/b/build/component.dep", "a\n")
        .image("c", "FROM scratch\nCOPY none /\n")
        .script("src/c/build/build-pre.sh", "exit 3\n");
    let out = Out::new();
    let fails = |arguments: &[&str], code| {
        let output = workspace.xtask(&[&["export", "bake"], arguments].concat()).exits_with(code);
        output.error().to_owned()
    };
    expect![[r#"
        error: src/a/build/build-post.sh: runs after the build of 'a', and Bake runs no hooks: what it writes for other components would be missing
    "#]].assert_eq(&fails(&[out.path()], 2));
    assert!(!out.path.exists());
    let output = workspace.xtask(&["export", "bake", out.path(), "a"]).exits_with(0);
    expect![
        "warning: src/a/build/build-post.sh: runs after the build of 'a', and Bake runs no hooks"
    ]
    .assert_eq(output.stderr.lines().next().unwrap_or_default());
    let again = fails(&[out.path(), "a"], 2);
    assert!(again.contains("out: is not empty: name a new folder"), "{again}");
    let inside = fails(&["src/a/out", "a"], 2);
    assert!(
        inside.contains("src/a/out: is in the context src/a, and would be sent: name another"),
        "{inside}"
    );
    assert!(!workspace.root().join("src/a/out").exists());
    let other = Out::new();
    let failed = fails(&[other.path(), "c"], 1);
    assert!(failed.contains("src/c/build/build-pre.sh"), "{failed}");
    assert_eq!(files(&other.path), [] as [&str; 0]);
    assert!(fails(&[other.path(), "nobody"], 2).contains("nobody"));
}

#[test]
fn caches_in_folders_are_those_of_the_workspace() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n").file(
        "xtask.toml",
        "cache-from = [\"type=local,src=cache\", \"r.example/cache\"]\n\
         cache-to = [\"type=local,mode=max,dest=/var/{image}\"]\n",
    );
    let out = Out::new();
    let _ = workspace.xtask(&["export", "bake", out.path()]).exits_with(0);
    let bake_file = out.bake_file(&workspace);
    for text in [
        "\"type=local,src=[ROOT]/cache\"",
        "\"r.example/cache\"",
        "\"type=local,dest=/var/tt-a,mode=max\"",
    ] {
        assert!(bake_file.contains(text), "{text}: {bake_file}");
    }
}

#[test]
fn a_link_into_a_context_leads_into_it() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n");
    let links = tempfile::tempdir().unwrap();
    symlink(workspace.root().join("src/a"), links.path().join("into")).unwrap();
    // The context of this one is elsewhere.
    let elsewhere = links.path().join("b");
    fs::create_dir_all(elsewhere.join("build")).unwrap();
    fs::write(elsewhere.join("build/b.dockerfile"), "FROM scratch\nCOPY build /\n").unwrap();
    symlink(&elsewhere, workspace.root().join("src/b")).unwrap();
    for folder in [links.path().join("into/new/out"), elsewhere.join("out")] {
        let output = workspace.xtask(&["export", "bake", folder.to_str().unwrap()]).exits_with(2);
        assert!(output.error().contains("out: is in the context src/"), "{}", output.error());
        assert!(!folder.exists());
    }
}

#[test]
fn proxies_and_secrets_are_in_no_file_that_is_written() {
    let proxies = r#"{"proxies": {"default": {"httpProxy": "http://user:hunter2@proxy:3128"}}}"#;
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nARG GREETING\nCOPY f /\n")
        .file("src/a/f", "1")
        .file("conf/config.json", proxies)
        .file("key", "hunter2")
        .file("xtask.toml", "[image.tt-a]\nsecrets = [\"id=key,src=key\"]\n")
        .secret("hunter2");
    let config = workspace.root().join("conf").display().to_string();
    let workspace = workspace.env("DOCKER_CONFIG", &config);
    let out = Out::new();
    let export = ["export", "bake", out.path(), "--build-arg", "GREETING=hello"];
    let _ = workspace.xtask(&export).exits_with(0);
    let written = out.bake_file(&workspace);
    assert!(written.contains("\"GREETING\": \"hello\""), "{written}");
    assert!(!written.contains("hunter2") && !written.contains("proxy"), "{written}");
    assert_eq!(files(&out.path), ["docker-bake.json", "f", &workspace.own("tt-a.dockerfile")]);
}
