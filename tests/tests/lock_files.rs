//! Lock files: what `push --lock` writes, and what `lock` reads of it.

use std::fs;

use expect_test::expect;
use serde_json::Value;
use tests::Workspace;
use tests::registry::Registry;

/// Two images, of which one is built from the other, in a repository without changes.
fn committed(registry: &Registry) -> Workspace {
    let workspace = Workspace::new()
        .replace(registry.address(), "[REGISTRY]")
        .image("web", "FROM scratch\nCOPY build /build\n")
        .image("db", "FROM tt-web\nLABEL x=1\n")
        .file(".gitignore", "/target/\n")
        .file("xtask.toml", &format!("registry = \"{}/x\"\n", registry.address()))
        .env("XTASK_TAG", "1")
        .git();
    let commit = "git -c user.name=x -c user.email=x@example.com commit -qm first";
    assert!(workspace.bash(commit).status().expect("bash runs").success());
    workspace
}

fn lock(workspace: &Workspace) -> Value {
    let text = fs::read_to_string(workspace.root().join("images.lock.json")).expect("a lock file");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_lock_file_says_where_images_are_and_what_they_were_made_from() {
    let registry = Registry::start();
    let workspace = committed(&registry);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = workspace.xtask(&["push", "--lock", "images.lock.json"]).exits_with(0);
    let written = lock(&workspace);
    let head = workspace.bash("git rev-parse HEAD").output().expect("bash runs").stdout;
    for image in ["tt-web", "tt-db"] {
        let entry = &written["images"][workspace.own(image)];
        assert_eq!(entry["commit"], String::from_utf8_lossy(&head).trim(), "{written:#}");
        assert_eq!(entry["dirty"], false, "{written:#}");
        let repository = workspace.own(&format!("x/{image}"));
        let digest = registry.digest(&repository, "1").expect("it was pushed");
        assert_eq!(entry["pushed"][format!("{}/{repository}:1", registry.address())], digest);
        let got = workspace.xtask(&["lock", "get", &workspace.own(image)]).exits_with(0);
        assert_eq!(got.stdout, format!("[REGISTRY]/x/{image}@[DIGEST]\n"));
    }
    // The lock file itself is no change, and what is pushed again comes to the same file.
    let _ = workspace.xtask(&["push", "--lock", "images.lock.json"]).exits_with(0);
    assert_eq!(lock(&workspace), written);
}

#[test]
fn a_push_of_one_image_replaces_its_entry_alone() {
    let registry = Registry::start();
    let workspace = committed(&registry);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = workspace.xtask(&["push", "--lock", "images.lock.json"]).exits_with(0);
    fs::rename(workspace.root().join("images.lock.json"), workspace.root().join("old.json"))
        .unwrap();
    fs::copy(workspace.root().join("old.json"), workspace.root().join("images.lock.json")).unwrap();
    let no_difference = workspace.xtask(&["lock", "diff", "old.json", "--exit-code"]).exits_with(0);
    assert_eq!(no_difference.stdout, "");
    workspace.write("src/db/build/tt-db.dockerfile", "FROM tt-web\nLABEL x=2\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = workspace.xtask(&["push", "-i", "tt-db", "--lock", "images.lock.json"]).exits_with(0);
    let diff = workspace.xtask(&["lock", "diff", "old.json", "--exit-code"]).exits_with(1);
    let words: Vec<&str> = diff.stdout.split_whitespace().collect();
    assert_eq!((words[0], words[1]), ("tt-db", "changed"), "{}", diff.stdout);
    assert_eq!(diff.stdout.lines().count(), 1, "{}", diff.stdout);
    assert!(diff.stdout.trim_end().ends_with("-dirty"), "{}", diff.stdout);
    let json = workspace.xtask(&["lock", "diff", "old.json", "--json"]).exits_with(0);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[0]["change"], "changed");
    assert_ne!(json[0]["old"]["fingerprint"], json[0]["new"]["fingerprint"]);
}

#[test]
fn options_that_count_for_nothing_beside_from_lock_are_refused() {
    let workspace =
        Workspace::new().file("src/a/f", "").file("l.json", "{\"version\":1,\"images\":{}}");
    for option in [
        "--tag=v9",
        "--flavor=k8s",
        "--retry-for=1",
        "--set=registry=r.x/y",
        "--build-arg=A=1",
        "--whole-context",
        "--share",
    ] {
        let wrong = workspace.xtask(&["push", "--from-lock", "l.json", option]).exits_with(2);
        let said = "'--from-lock <FILE>' cannot be used with";
        assert!(wrong.stderr.contains(said), "{option}: {}", wrong.stderr);
    }
    // For other commands, they are in the environment. But something is to be put back.
    let variables = ["XTASK_TAG", "XTASK_FLAVOR"].map(|name| (name.to_owned(), "x".to_owned()));
    let none = workspace.xtask_with(&variables.into(), &["push", "--from-lock", "l.json"]);
    expect![[r#"
        error: l.json: says of no image where it was pushed: there is nothing to put back
    "#]]
    .assert_eq(none.exits_with(2).error());
    let image = r#"{"fingerprint":null,"commit":null,"dirty":false,"pushed":{}}"#;
    workspace.write("l.json", &format!("{{\"version\":1,\"images\":{{\"a\":{image}}}}}"));
    let one = workspace.xtask(&["push", "--from-lock", "l.json", "-i", "a"]).exits_with(2);
    assert!(one.error().contains("l.json: does not say where a was pushed"), "{one:?}");
    let got = workspace.xtask(&["lock", "get", "a", "-f", "l.json"]).exits_with(2);
    assert!(got.error().contains("l.json: it does not say where 'a' was pushed"), "{got:?}");
}

#[test]
fn names_of_a_lock_file_command_nothing() {
    let name = r"e\u001b[31mvil\n::error::x ##[error]y";
    let image = format!(
        r#"{{"fingerprint":"f","commit":"\u001b[2J##[error]c","dirty":false,"pushed":{{"r.x/a:1":"{DIGEST}"}}}}"#
    );
    let workspace = Workspace::new()
        .env("GITHUB_ACTIONS", "true")
        .file("new.json", r#"{"version":1,"images":{}}"#)
        .file("old.json", &format!(r#"{{"version":1,"images":{{"{name}":{image}}}}}"#));
    for format in [&[][..], &["--json"]] {
        let diff = [&["lock", "diff", "old.json", "new.json"], format].concat();
        let shown = workspace.xtask(&diff).exits_with(0).stdout;
        assert!(!shown.contains('\u{1b}') && !shown.contains("##["), "{shown}");
        assert!(!shown.contains("\n::"), "{shown}");
        assert!(format.is_empty() || serde_json::from_str::<Value>(&shown).is_ok(), "{shown}");
    }
}

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A lock file with one image, pushed to these references.
fn lock_file(image: &str, fingerprint: &str, pushed: &[(&str, &str)]) -> String {
    let pushed: Vec<String> =
        pushed.iter().map(|(reference, digest)| format!("\"{reference}\": \"{digest}\"")).collect();
    format!(
        "{{\"version\": 1, \"images\": {{\"{image}\": {{\"fingerprint\": \"{fingerprint}\", \
         \"commit\": null, \"dirty\": false, \"pushed\": {{{}}}}}}}}}",
        pushed.join(", ")
    )
}

#[test]
fn images_are_added_removed_rebuilt_and_retagged() {
    let other = DIGEST.replace("0123", "9876");
    let workspace = Workspace::new()
        .file("one.json", &lock_file("a", "f", &[("r.io/a:1", DIGEST)]))
        .file("again.json", &lock_file("a", "f", &[("r.io/a:1", &other)]))
        .file("tagged.json", &lock_file("a", "f", &[("r.io/a:2", DIGEST)]))
        .file("b.json", &lock_file("b", "f", &[("r.io/b:1", DIGEST)]));
    let diff = |new: &str| workspace.xtask(&["lock", "diff", "one.json", new]).exits_with(0).stdout;
    expect![[r#"
        a  rebuilt  0123456789ab -> 9876456789ab  no commit
        a  retagged  r.io/a:1 -> r.io/a:2  no commit
        a  removed  0123456789ab  no commit
        b  added    0123456789ab  no commit
    "#]]
    .assert_eq(&[diff("again.json"), diff("tagged.json"), diff("b.json")].concat());
}

#[test]
fn what_a_lock_file_does_not_say_is_an_error() {
    let two = [("r.io/x/a:1", DIGEST), ("q.io/a:1", DIGEST)];
    let workspace = Workspace::new()
        .file("images.lock.json", &lock_file("web", "f", &two))
        .file("later.json", "{\"version\": 2, \"images\": {}}")
        .file("broken.json", "{\n\"version\": 1,\n");
    let failing: [&[&str]; 6] = [
        &["get", "wbe"],
        &["get", "web"],
        &["get", "web", "--registry", "r.io/other"],
        &["get", "web", "-f", "later.json"],
        &["get", "web", "-f", "broken.json"],
        &["diff", "none.json"],
    ];
    let said: Vec<String> = failing
        .iter()
        .map(|arguments| workspace.xtask(&[&["lock"], *arguments].concat()).exits_with(2).stderr)
        .collect();
    expect![[r#"
        error: images.lock.json: it has no image 'wbe' (did you mean 'web'?)
        error: images.lock.json: 'web' was pushed to several repositories: choose one with --registry: q.io/a@[DIGEST], r.io/x/a@[DIGEST]
        error: images.lock.json: 'web' was not pushed to 'r.io/other': it is q.io/a@[DIGEST], r.io/x/a@[DIGEST]
        error: later.json: has version 2, and this program knows 1 only
        error: broken.json:3: is not a lock file: EOF while parsing a value at line 3 column 0
        error: none.json: cannot be read: No such file or directory (os error 2)
    "#]]
    .assert_eq(&said.concat());
    let got = workspace.xtask(&["lock", "get", "web", "--registry", "r.io/x"]).exits_with(0);
    assert_eq!(got.stdout, "r.io/x/a@[DIGEST]\n");
    // A push says so before it begins.
    let workspace = committed(&Registry::start()).file("images.lock.json", "[]");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let pushed = workspace.xtask(&["push", "--lock", "images.lock.json"]).exits_with(2);
    assert!(!pushed.stderr.contains("pushing"), "{}", pushed.stderr);
}

#[test]
fn tags_are_put_back_without_a_build_or_an_engine() {
    let registry = Registry::start();
    let workspace = committed(&registry);
    let digest = |image: &str| registry.digest(&workspace.own(&format!("x/{image}")), "1").unwrap();
    let images = ["tt-web", "tt-db"];
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = workspace.xtask(&["push", "--lock", "good.json"]).exits_with(0);
    let good = images.map(digest);
    workspace.write("src/web/build/file", "bad");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = workspace.xtask(&["push"]).exits_with(0);
    let bad = images.map(digest);
    assert!(good[0] != bad[0] && good[1] != bad[1]);
    let rolled_back = |arguments: &[&str]| {
        let variables = [("DOCKER_HOST".to_owned(), "unix:///none.sock".to_owned())].into();
        let all = [&["push", "--from-lock", "good.json"], arguments].concat();
        workspace.xtask_with(&variables, &all)
    };
    let output = rolled_back(&["-i", &workspace.own("tt-d*")]).exits_with(0);
    assert_eq!(output.stdout, "[REGISTRY]/x/tt-db:1@[DIGEST]\n");
    assert_eq!(images.map(digest), [bad[0].clone(), good[1].clone()]);
    let _ = rolled_back(&[]).exits_with(0);
    assert_eq!(images.map(digest), good);
    // What is not there is said, and the rest is put back.
    let text = fs::read_to_string(workspace.root().join("good.json")).unwrap();
    workspace.write("good.json", &text.replace(&good[0], DIGEST));
    let output = rolled_back(&[]).exits_with(1);
    assert!(output.stderr.contains("the registry no longer has [DIGEST]"), "{}", output.stderr);
    assert_eq!(output.stdout, "[REGISTRY]/x/tt-db:1@[DIGEST]\n");
    let output = rolled_back(&["-i", "none"]).exits_with(2);
    assert!(output.stderr.contains("good.json: it has no image 'none'"), "{}", output.stderr);
}
