//! `doctor` names what is wrong and what mends it, and is content afterwards; `clean` removes what
//! builds of this workspace left, and nothing else.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tests::detour::{Answer, Detour};
use tests::engine::{cli_build, docker, has_containerd_store, has_image};
use tests::{Output, Workspace};

fn healthy() -> Workspace {
    Workspace::new().image("a", "FROM scratch\nCOPY f /\n").file("src/a/f", "1")
}

fn doctor(workspace: &Workspace, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    workspace.xtask_with(&variables, &[&["doctor"], arguments].concat())
}

/// The lines of a check, with its remedies.
fn lines(output: &Output, name: &str) -> String {
    let mut lines = String::new();
    let mut is_wanted = false;
    for line in output.stdout.lines() {
        if !line.starts_with("      ") {
            is_wanted = line.get(6..).is_some_and(|rest| rest.starts_with(name));
        }
        if is_wanted {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

/// A check has this status, and its lines hold all of these texts.
fn says(output: &Output, name: &str, status: &str, texts: &[&str]) {
    let lines = lines(output, name);
    assert!(lines.starts_with(status), "{name}: {}", output.stdout);
    for text in texts {
        assert!(lines.contains(text), "{text}: {}", output.stdout);
    }
}

#[test]
fn a_healthy_workspace_has_nothing_to_mend() {
    let output = doctor(&healthy(), &[], &[]).exits_with(0);
    assert!(output.stdout.lines().all(|line| line.starts_with("ok  ")), "{}", output.stdout);
    let json = doctor(&healthy(), &[], &["--json"]).exits_with(0);
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.len() >= 9, "{document}");
    assert!(checks.iter().all(|check| check["status"] == "ok"), "{document}");
}

#[test]
fn an_engine_that_is_away_is_a_failure() {
    let workspace = healthy();
    let output = doctor(&workspace, &[("DOCKER_HOST", "unix:///nowhere")], &[]).exits_with(1);
    says(&output, "engine", "fail", &["cannot connect to the engine at unix:///nowhere"]);
    says(&output, "workspace", "ok", &["1 component, 1 image"]);
    says(&doctor(&workspace, &[], &[]).exits_with(0), "engine", "ok", &[]);
}

#[test]
fn the_classic_builder_is_warned_of() {
    let workspace = healthy();
    let output = doctor(&workspace, &[("DOCKER_BUILDKIT", "0")], &[]).exits_with(0);
    says(&output, "builder", "warn", &["the classic builder", "→ use Docker 23"]);
    says(&doctor(&workspace, &[], &[]), "builder", "ok", &["BuildKit, with a session"]);
}

#[test]
fn an_engine_that_opens_no_session_is_warned_of() {
    let workspace = healthy();
    let detour = Detour::start("/session", Answer::Whole("404 Not Found", "{}".to_owned()));
    let output = doctor(&workspace, &[("DOCKER_HOST", &detour.host())], &[]).exits_with(0);
    says(&output, "builder", "warn", &["BuildKit without a session", "→ use the engine's socket"]);
    // What was said to need one says so.
    let variables = [("DOCKER_HOST".to_owned(), detour.host())].into();
    let wanted = ["build", "--no-cache-filter=one"];
    workspace.write("src/a/build/tt-a.dockerfile", "FROM scratch AS one\nCOPY f /\n");
    let refused = workspace.xtask_with(&variables, &wanted).exits_with(1);
    assert!(refused.error().contains("needs a session, and the engine at "), "{refused:?}");
    let _ = workspace.xtask(&wanted).exits_with(0);
}

#[test]
fn missing_and_old_programs_are_named() {
    let workspace = healthy().file("Cargo.toml", "[workspace]\n");
    let output = doctor(&workspace, &[("PATH", "/nowhere")], &[]).exits_with(0);
    says(&output, "git", "warn", &["cannot be run", "→ apt-get install git"]);
    says(&output, "rust", "warn", &["rustc cannot be run", "→ install it by rustup"]);
    let workspace = workspace.script("bin/rustc", "#!/bin/sh\necho 'rustc 1.70.0 (0 2023)'\n");
    let path = workspace.root().join("bin").display().to_string();
    let output = doctor(&workspace, &[("PATH", &path)], &[]).exits_with(0);
    says(&output, "rust", "warn", &["rustc 1.70.0 (0 2023) is older than 1.95", "→ rustup update"]);
    let output = doctor(&workspace, &[], &[]).exits_with(0);
    says(&output, "git", "ok", &[]);
    says(&output, "rust", "ok", &["rustc 1."]);
}

/// With a file or a small file system in the place of another, which no other program sees.
fn doctor_with(workspace: &Workspace, mount: &str) -> Output {
    let command =
        format!("unshare --map-root-user --mount sh -c '{mount} && \"$0\" doctor' $XTASK");
    workspace.run(&mut workspace.bash(&command)).finish()
}

#[test]
fn a_limit_of_watches_that_is_too_low_is_warned_of() {
    let workspace = healthy().file("low", "1\n");
    let limit = "/proc/sys/fs/inotify/max_user_watches";
    let output = doctor_with(&workspace, &format!("mount --bind low {limit}")).exits_with(0);
    let texts = ["the limit of 1 is less than the 2 folders", "→ sudo sysctl fs.inotify."];
    says(&output, "watches", "warn", &texts);
    workspace.write("low", "65536\n");
    let output = doctor_with(&workspace, &format!("mount --bind low {limit}")).exits_with(0);
    says(&output, "watches", "ok", &["2 folders can be watched"]);
}

#[test]
fn a_disk_that_is_nearly_full_is_warned_of() {
    let workspace = healthy();
    let folder = docker(&["info", "--format", "{{.DockerRootDir}}"]);
    let folder = String::from_utf8(folder).unwrap();
    let mount = format!("mount -t tmpfs -o size=1m tmpfs {}", folder.trim());
    let output = doctor_with(&workspace, &mount).exits_with(0);
    says(&output, "disk", "warn", &["free in ", "→ cargo xtask clean --images"]);
    says(&doctor(&workspace, &[], &[]).exits_with(0), "disk", "ok", &["free in "]);
}

#[test]
fn dockers_configuration_is_looked_at() {
    let workspace = healthy().file("config/config.json", "{\"auths\": 1");
    let folder = workspace.root().join("config").display().to_string();
    let variables = [("DOCKER_CONFIG", folder.as_str())];
    let output = doctor(&workspace, &variables, &[]).exits_with(1);
    says(&output, "docker config", "fail", &["config.json: is invalid"]);
    workspace.write("config/config.json", "{\"credsStore\": \"nosuch\"}");
    let output = doctor(&workspace, &variables, &[]).exits_with(1);
    says(
        &output,
        "docker config",
        "fail",
        &["docker-credential-nosuch", "→ install it, or remove"],
    );
    workspace.write("config/config.json", "{}");
    says(&doctor(&workspace, &variables, &[]).exits_with(0), "docker config", "ok", &[]);
}

#[test]
fn a_missing_login_is_warned_of() {
    let workspace = healthy().file("xtask.toml", "registry = \"r.example/x\"\n");
    let folder = workspace.root().join("config").display().to_string();
    workspace.write("config/config.json", "{}");
    let variables = [("DOCKER_CONFIG", folder.as_str())];
    let output = doctor(&workspace, &variables, &[]).exits_with(0);
    says(&output, "registry", "warn", &["no login for r.example", "→ docker login r.example"]);
    workspace.write("config/config.json", "{\"auths\": {\"r.example\": {\"auth\": \"YTpi\"}}}");
    says(&doctor(&workspace, &variables, &[]), "registry", "ok", &["r.example"]);
}

#[test]
fn hooks_without_inputs_are_named_with_the_command_that_mends_it() {
    let workspace = healthy().script("src/a/build/build-pre.sh", "#!/bin/sh\ncat version\n");
    let workspace = workspace.file("version", "1");
    let output = doctor(&workspace, &[], &[]).exits_with(0);
    let remedy = "→ cargo xtask inputs a > src/a/build/inputs";
    says(&output, "hooks", "warn", &["run in every build", remedy]);
    let inputs = workspace.xtask(&["inputs", "a"]).exits_with(0);
    workspace.write("src/a/build/inputs", &inputs.stdout);
    says(&doctor(&workspace, &[], &[]), "hooks", "ok", &[]);
}

#[test]
fn inputs_are_listed_in_xtask_toml_where_no_folder_can_declare_them() {
    let workspace = Workspace::new()
        .file("apps/web/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("apps/web/f", "1")
        .file(
            "xtask.toml",
            "[image.tt-web]\ndockerfile = \"apps/web/Dockerfile\"\npre-build = [\"true\"]\n",
        );
    let remedy = "→ list what 'cargo xtask inputs web' prints as 'inputs' in xtask.toml";
    says(&doctor(&workspace, &[], &[]), "hooks", "warn", &["run in every build", remedy]);
}

#[test]
fn a_base_that_is_listed_as_external_is_meant() {
    let workspace = healthy().image("b", "FROM tt-aa:1\n").image("c", "FROM tt-aaa\n");
    let remedy = "list it as 'external' in xtask.toml";
    says(&doctor(&workspace, &[], &[]), "dockerfiles", "warn", &["'tt-aa:1'", remedy]);
    workspace.write("xtask.toml", "external = [\"tt-aa*\"]\n");
    let output = doctor(&workspace, &[], &[]);
    says(&output, "dockerfiles", "warn", &["'tt-aaa' has no tag"]);
    assert!(!output.stdout.contains("external"), "{}", output.stdout);
}

#[test]
fn hooks_that_write_among_the_sources_are_named() {
    let hook =
        |path: &str| format!("#!/bin/sh\nmkdir -p src/a/{path} && cp version src/a/{path}/\n");
    let workspace = healthy()
        .file("version", "1")
        .file("src/a/build/inputs", "version\n")
        .script("src/a/build/build-pre.sh", &hook("app"));
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let output = doctor(&workspace, &[], &[]).exits_with(0);
    let texts =
        ["write among the sources of a, such as src/a/app", "→ let them write to src/a/gen"];
    says(&output, "hooks", "warn", &texts);
    workspace.write("src/a/build/build-pre.sh", &hook("generated"));
    let _ = workspace.xtask(&["build"]).exits_with(0);
    says(&doctor(&workspace, &[], &[]), "hooks", "ok", &[]);
}

#[test]
fn dockerfiles_that_surprise_are_named_with_their_lines() {
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY build /\n")
        .image("web", "FROM tt-bsae\nFROM debian\nCOPY . /\n")
        .image("good", "FROM debian:12\nCOPY f /\n")
        .file("src/good/f", "1");
    let output = doctor(&workspace, &[], &[]).exits_with(0);
    let file = "src/web/build/tt-web.dockerfile";
    for text in [
        format!("{file}:1: 'tt-bsae' is no image of this repository (did you mean 'tt-base'?)"),
        format!("{file}:2: 'debian' has no tag"),
        format!("{file}: reads its whole context, and no .dockerignore"),
    ] {
        says(&output, "dockerfiles", "warn", &[text.as_str()]);
    }
    assert!(!lines(&output, "dockerfiles").contains("tt-good"), "{}", output.stdout);
    workspace.write(file, "FROM tt-base\nCOPY . /\n");
    workspace.write("src/web/.dockerignore", "*.md\n");
    says(&doctor(&workspace, &[], &[]), "dockerfiles", "ok", &[]);
}

#[test]
fn a_broken_workspace_is_a_failure() {
    let workspace = healthy().file("src/b/build/component.dep", "nothing\n");
    let output = doctor(&workspace, &[], &[]).exits_with(1);
    says(&output, "workspace", "fail", &["src/b/build/component.dep:1: no component 'nothing'"]);
    fs::remove_file(workspace.root().join("src/b/build/component.dep")).unwrap();
    says(&doctor(&workspace, &[], &[]).exits_with(0), "workspace", "ok", &[]);
    let workspace = healthy().file("src/b/Dockerfile", "FROM scratch\n");
    let output = doctor(&workspace, &[], &[]).exits_with(0);
    says(&output, "workspace", "warn", &["src/b/Dockerfile: is ignored: move it"]);
}

/// A build that is killed in its hook leaves the folders of the component.
fn with_leftovers() -> Workspace {
    let hook = "#!/bin/sh\nmkdir -p src/a/generated\ntouch src/a/generated/x ready\nsleep 1000\n";
    let workspace = healthy().script("src/a/build/build-pre.sh", hook);
    let running = workspace.start(&["build"]);
    tests::wait_until("the hook runs", || workspace.root().join("ready").exists());
    running.signal(rustix::process::Signal::KILL);
    let _ = running.finish();
    workspace
}

#[test]
fn left_overs_are_found_and_removed() {
    let workspace = with_leftovers();
    let output = doctor(&workspace, &[], &[]).exits_with(0);
    says(&output, "leftovers", "warn", &["src/a", "→ cargo xtask clean"]);
    let shown = workspace.xtask(&["clean", "-n"]).exits_with(0);
    assert_eq!(shown.stdout, "would remove what a killed build left in src/a/\n");
    assert!(workspace.root().join("src/a/generated").exists());
    let cleaned = workspace.xtask(&["clean"]).exits_with(0);
    assert_eq!(cleaned.stdout, "removed what a killed build left in src/a/\n");
    assert!(!workspace.root().join("src/a/generated").exists());
    says(&doctor(&workspace, &[], &[]), "leftovers", "ok", &[]);
    assert_eq!(workspace.xtask(&["clean"]).exits_with(0).stdout, "nothing to clean\n");
    let workspace = with_leftovers();
    says(&doctor(&workspace, &[], &["--fix"]), "leftovers", "ok", &[]);
    assert!(!workspace.root().join("src/a/generated").exists());
}

#[test]
fn images_without_a_name_that_were_built_here_are_removed_and_no_others() {
    let workspace = healthy();
    if has_containerd_store() {
        // It keeps none.
        let _ = workspace.xtask(&["build"]).exits_with(0);
        workspace.write("src/a/f", "2");
        let _ = workspace.xtask(&["build"]).exits_with(0);
        return says(&doctor(&workspace, &[], &[]), "images", "ok", &["0 without a name"]);
    }
    let image = workspace.own("tt-a");
    let id = |name: &str| {
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", name]);
        String::from_utf8(id).unwrap().trim().to_owned()
    };
    let mut ids = Vec::new();
    for count in 0..22 {
        workspace.write("src/a/f", &format!("{image} {count}"));
        let _ = workspace.xtask(&["build"]).exits_with(0);
        ids.push(id(&image));
    }
    // Somebody's image is derived from one of ours, and has lost its name.
    let derived = workspace.root().join("derived");
    fs::create_dir(&derived).unwrap();
    fs::write(derived.join("Dockerfile"), format!("FROM {image}\nLABEL x=y\n")).unwrap();
    cli_build(&derived, "Dockerfile", &workspace.own("tt-derived"), &[]);
    let derived = id(&workspace.own("tt-derived"));
    docker(&["rmi", &workspace.own("tt-derived")]);
    let had_derived = has_image(&derived);
    let output = doctor(&workspace, &[], &[]).exits_with(0);
    let remedy = "→ cargo xtask clean --images";
    says(&output, "images", "warn", &["21 without a name that were built here", remedy]);
    let cleaned = workspace.xtask(&["clean", "--images"]).exits_with(0);
    assert!(cleaned.stdout.starts_with("removed 21 images without a name"), "{}", cleaned.stdout);
    let (last, old) = ids.split_last().unwrap();
    assert!(has_image(last) && old.iter().all(|id| !has_image(id)));
    assert_eq!(has_image(&derived), had_derived);
    says(&doctor(&workspace, &[], &[]), "images", "ok", &["0 without a name"]);
    let cleaned = workspace.xtask(&["clean", "--state"]).exits_with(0);
    assert_eq!(cleaned.stdout, "removed target/xtask/\n");
    assert!(!workspace.root().join("target/xtask").exists());
    let again = workspace.xtask(&["build"]).exits_with(0);
    assert!(again.stderr.contains("is up to date"), "{}", again.stderr);
}
