//! No image passes for one that it is not, whoever made it and whenever.

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::Value;
use tests::engine::{
    cli_build, cli_build_with_buildkit, cli_with_buildkit, docker, has_containerd_store, image_tree,
};
use tests::{Workspace, wait_until};

const ARGUMENTS: [&str; 3] = ["build", "--progress", "plain"];

/// An image of one file.
fn one() -> Workspace {
    Workspace::new()
        .image("a", "FROM scratch\nARG WORD=none\nCOPY text /text\nLABEL word=$WORD\n")
        .file("src/a/text", "first")
}

fn id(image: &str) -> String {
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", image]);
    String::from_utf8(id).unwrap().trim().to_owned()
}

fn derive(workspace: &Workspace, instructions: &str, name: &str, arguments: &[&str]) {
    let text = format!("FROM tt-a\n{instructions}");
    workspace.write("stranger/Dockerfile", &text);
    cli_build(&workspace.root().join("stranger"), "Dockerfile", &workspace.own(name), arguments);
}

fn commit(workspace: &Workspace, change: &[&str], name: &str) {
    let container = docker(&["create", &workspace.own("tt-a"), "/none"]);
    let container = String::from_utf8(container).unwrap().trim().to_owned();
    docker(&[&["commit"], change, &[&container, &workspace.own(name)]].concat());
    docker(&["rm", &container]);
}

/// Ways to make another image of ours, which inherits its labels.
fn strangers<'w>(workspace: &'w Workspace, name: &'static str) -> Vec<Box<dyn Fn() + 'w>> {
    let derived = |instructions: &'static str, arguments: &'static [&'static str]| {
        Box::new(move || derive(workspace, instructions, name, arguments)) as Box<dyn Fn() + 'w>
    };
    let committed = |change: &'static [&'static str]| {
        Box::new(move || commit(workspace, change, name)) as Box<dyn Fn() + 'w>
    };
    vec![
        derived("COPY Dockerfile /evil\n", &[]),
        derived("ENV STRANGER=1\n", &[]),
        derived("CMD [\"/evil\"]\n", &[]),
        derived("", &["--label", "stranger=1"]),
        committed(&[]),
        committed(&["--change", "ENTRYPOINT [\"/evil\"]"]),
    ]
}

#[test]
fn an_image_made_from_ours_is_never_restored_in_its_place() {
    let workspace = one();
    for stranger in strangers(&workspace, "tt-a-downstream") {
        workspace.write("src/a/text", "first");
        workspace.xtask(&ARGUMENTS).exits_with(0);
        let first = id(&workspace.own("tt-a"));
        stranger();
        workspace.write("src/a/text", "second");
        workspace.xtask(&ARGUMENTS).exits_with(0);
        workspace.write("src/a/text", "first");
        workspace.xtask(&ARGUMENTS).exits_with(0);
        assert_eq!(id(&workspace.own("tt-a")), first);
    }
}

#[test]
fn without_the_record_an_image_made_from_ours_does_not_pass_for_it() {
    let workspace = one();
    workspace.xtask(&ARGUMENTS).exits_with(0);
    let first = id(&workspace.own("tt-a"));
    for stranger in strangers(&workspace, "tt-a") {
        docker(&["tag", &first, &workspace.own("tt-a")]);
        stranger();
        assert_ne!(id(&workspace.own("tt-a")), first);
        fs::remove_dir_all(workspace.root().join("target")).unwrap();
        workspace.xtask(&ARGUMENTS).exits_with(0);
        let tree = image_tree(&workspace.own("tt-a"));
        assert!(tree["text"].ends_with("first") && !tree.contains_key("evil"));
        let format = "{{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.Env}} {{.Config.Labels}}";
        let config = docker(&["image", "inspect", "--format", format, &workspace.own("tt-a")]);
        let config = String::from_utf8(config).unwrap();
        assert!(
            !config.contains("evil") && !config.to_lowercase().contains("stranger"),
            "{config}"
        );
    }
}

#[test]
fn with_buildkit_neither() {
    let Some(cli) = cli_with_buildkit() else {
        panic!("no docker CLI builds with BuildKit: install Debian's docker.io");
    };
    let workspace = one();
    workspace.xtask(&ARGUMENTS).exits_with(0);
    let name = workspace.own("tt-a");
    let first = id(&name);
    let folder = workspace.root().join("stranger");
    // Of some of these BuildKit leaves no trace in the history.
    for (instruction, arguments) in [
        ("LABEL stranger=1\n", &[][..]),
        ("ONBUILD COPY stranger /\n", &[]),
        ("", &["--label", "stranger=1"]),
        ("", &["--label", "word=stranger"]),
    ] {
        docker(&["tag", &first, &name]);
        workspace.write("stranger/Dockerfile", &format!("FROM tt-a\n{instruction}"));
        cli_build_with_buildkit(&cli, &folder, "Dockerfile", &name, arguments);
        assert_ne!(id(&name), first);
        fs::remove_dir_all(workspace.root().join("target")).unwrap();
        workspace.xtask(&ARGUMENTS).exits_with(0);
        let format = "{{.Config.Labels}} {{.Config.OnBuild}}";
        let config = docker(&["image", "inspect", "--format", format, &name]);
        assert!(!String::from_utf8(config).unwrap().contains("stranger"), "{instruction}");
    }
}

#[test]
fn without_the_record_what_a_dockerfile_made_is_known_again() {
    let workspace = Workspace::new()
        .with_box()
        .image("a", "FROM tt-box AS one\nARG WORD=x\nRUN echo $WORD > /w\nFROM one\nWORKDIR /s\n")
        .image("b", "FROM tt-a\nLABEL a=b c=\"d e\"\nENV X=1\nCOPY --from=tt-box /bin/sh /s/sh\n")
        .image("c", "FROM scratch\nCOPY build/ /\nCMD [\"x\"]\n");
    for builder in ["buildkit", "classic"] {
        workspace.xtask(&["build", "--no-cache", "--builder", builder]).exits_with(0);
        fs::remove_dir_all(workspace.root().join("target")).unwrap();
        let output = workspace.xtask(&ARGUMENTS).exits_with(0);
        assert_eq!(output.built(), [""; 0], "{builder}: {}", output.stderr);
    }
}

/// A pull takes what was pushed from a machine of another architecture, with a warning at most.
#[test]
fn without_the_record_an_image_for_another_platform_does_not_pass_for_it() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY text /text\n")
        .file("src/a/text", "first")
        .image("b", "FROM tt-a\nCOPY text /other\n")
        .file("src/b/text", "second");
    workspace.xtask(&ARGUMENTS).exits_with(0);
    let inspect = |image: &str, format: &str| {
        let out = docker(&["image", "inspect", "--format", format, &workspace.own(image)]);
        String::from_utf8(out).unwrap().trim().to_owned()
    };
    let platform = "{{.Os}}/{{.Architecture}}";
    let own = inspect("tt-a", platform);
    let other = if own == "linux/arm64" { "linux/amd64" } else { "linux/arm64" };
    let labels = inspect("tt-a", "{{range $n, $v := .Config.Labels}}{{$n}}={{$v}}\n{{end}}");
    let labels = labels.lines().flat_map(|label| ["--label", label]);
    let arguments: Vec<&str> = labels.chain(["--platform", other]).collect();
    let (folder, dockerfile) =
        (workspace.root().join("src/a"), workspace.own("build/tt-a.dockerfile"));
    cli_build(&folder, &dockerfile, &workspace.own("tt-a"), &arguments);
    assert_eq!(inspect("tt-a", platform), other);
    fs::remove_dir_all(workspace.root().join("target")).unwrap();
    let output = workspace.xtask(&ARGUMENTS).exits_with(0);
    for image in ["tt-a", "tt-b"] {
        assert_eq!(inspect(image, platform), own, "{image}: {}", output.stderr);
    }
}

#[test]
fn a_base_whose_name_another_checkout_takes_is_noticed() {
    let take = "#!/bin/sh\n[ -e taken ] || { touch taken; docker tag tt-other tt-a; }\n";
    for instruction in
        ["FROM tt-a\nCOPY own /own\n", "FROM scratch\nCOPY --from=tt-a /text /text\n"]
    {
        let workspace = one()
            .image("b", instruction)
            .file("src/b/own", "x")
            .script("src/b/build/build-pre.sh", take);
        workspace.write("other/text", "other");
        workspace.write("other/Dockerfile", "FROM scratch\nCOPY text /text\n");
        let name = workspace.own("tt-other");
        cli_build(&workspace.root().join("other"), "Dockerfile", &name, &[]);
        let output = workspace.xtask(&ARGUMENTS).exits_with(0);
        assert!(image_tree(&workspace.own("tt-b"))["text"].ends_with("first"), "{instruction}");
        // The containerd store may have removed it when it lost its name.
        let is_warned = |what: &str| output.stderr.contains(&format!("tt-a was {what} during"));
        let is_gone = has_containerd_store() && is_warned("removed from the engine");
        assert!(is_gone || is_warned("tagged onto another image"), "{}", output.stderr);
        assert!(image_tree(&workspace.own("tt-a"))["text"].ends_with("first"));
    }
}

#[test]
fn a_base_whose_name_is_taken_during_the_build_is_noticed() {
    // The other checkout takes the name as long as the instruction runs.
    let workspace = Workspace::new()
        .with_box()
        .image("a", "FROM tt-box\nCOPY text /text\n")
        .file("src/a/text", "first");
    // The builder's cache must not know it from an earlier run.
    let own = workspace.root().display().to_string();
    let workspace = workspace.image("b", &format!("FROM tt-a\nRUN sleep 2; : {own}\n"));
    let taken = workspace.own("tt-a");
    let other = workspace.own("tt-box");
    let mut running = workspace.start(&ARGUMENTS);
    running.wait_for("b | [2/2] RUN sleep 2; : ");
    docker(&["tag", &other, &taken]);
    let output = running.finish().exits_with(0);
    assert_eq!(output.stderr.matches("of this workspace again").count(), 1, "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-b"))["text"].ends_with("first"));
    assert_eq!(workspace.xtask(&ARGUMENTS).exits_with(0).built(), [""; 0]);
}

#[test]
fn two_checkouts_that_build_at_once_do_not_mix() {
    let texts = ["one", "two"];
    let workspace = |text: &str, prefix: Option<&Workspace>| {
        let made = prefix.map_or_else(Workspace::new, Workspace::copy);
        for name in ["a", "b", "c", "d"] {
            let base = match name {
                "a" => "scratch".to_owned(),
                other => format!("tt-{}", char::from(other.as_bytes()[0] - 1)),
            };
            let dockerfile = format!("FROM {base}\nCOPY text /{name}\n");
            made.write(&format!("src/{name}/build/tt-{name}.dockerfile"), &dockerfile);
            made.write(&format!("src/{name}/text"), text);
        }
        made
    };
    let first = workspace(texts[0], None);
    let second = workspace(texts[1], Some(&first));
    for _ in 0..3 {
        thread::scope(|scope| {
            let both = [&first, &second].map(|workspace| {
                scope.spawn(move || workspace.xtask(&["build", "--force", "--keep-going"]))
            });
            for (built, text) in both.into_iter().zip(texts) {
                let output = built.join().unwrap();
                // One may give up, and says why.
                let reasons = [
                    "images of another checkout that uses the same names",
                    "was removed from the engine during the build: run the build again",
                ];
                let gives_up = reasons.iter().any(|reason| output.stderr.contains(reason));
                assert!(output.code == 0 || gives_up, "{text}: {}", output.stderr);
            }
        });
        for (workspace, text) in [&first, &second].into_iter().zip(texts) {
            workspace.xtask(&ARGUMENTS).exits_with(0);
            let tree = image_tree(&workspace.own("tt-d"));
            for name in ["a", "b", "c", "d"] {
                assert!(tree[name].ends_with(text), "{text}: /{name} is {}", tree[name]);
            }
        }
    }
}

#[test]
fn the_flavor_counts_where_hooks_are_skipped() {
    let hook = "#!/bin/sh\nmkdir -p src/a/generated; echo x > src/a/generated/x\n";
    let dockerfile = |flavor: &str| format!("FROM scratch\nCOPY generated/x /\nLABEL f={flavor}\n");
    let workspace = Workspace::new()
        .file("src/a/build/tt-a.yarn.dockerfile", &dockerfile("yarn"))
        .file("src/a/build/tt-a.k8s.dockerfile", &dockerfile("k8s"))
        .file("src/a/build/inputs", "# nothing\n")
        .script("src/a/build/build-pre.sh", hook);
    let format = "{{index .Config.Labels \"f\"}}";
    for flavor in ["yarn", "k8s", "yarn"] {
        workspace.xtask(&["build", "--flavor", flavor]).exits_with(0);
        let found = docker(&["image", "inspect", "--format", format, &workspace.own("tt-a")]);
        assert_eq!(String::from_utf8(found).unwrap().trim(), flavor);
    }
}

const CONFIG: &str = "cluster:\n  docker-registry:\n    domain: quay.invalid\n    \
                      namespace: tt-org\n    tag: v7\n";

#[test]
fn the_name_that_push_gives_an_image_is_that_image() {
    let workspace = one()
        .image("b", "ARG BASE=quay.invalid/tt-org/tt-a:v7\nFROM $BASE\nCOPY own /own\n")
        .file("src/b/own", "x")
        .file("config/services-configuration.yaml", CONFIG);
    let with = ["build", "-c", "config"];
    workspace.xtask(&with).exits_with(0);
    workspace.write("src/a/text", "second");
    assert_eq!(workspace.xtask(&with).exits_with(0).built(), ["a", "b"]);
    assert!(image_tree(&workspace.own("tt-b"))["text"].ends_with("second"));
    workspace.write("src/a/text", "third");
    let output = workspace.xtask(&["build"]).exits_with(0);
    let warning = "warning: src/b/build/tt-b.dockerfile:2: quay.invalid/tt-org/tt-a:v7 was built \
                   by component 'a' and is used as it is";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    assert_eq!(workspace.xtask(&with).exits_with(0).built(), ["b"]);
    assert!(image_tree(&workspace.own("tt-b"))["text"].ends_with("third"));
}

#[test]
fn a_plan_says_what_a_build_does_and_changes_nothing() {
    let post = "#!/bin/sh\nmkdir -p src/b/generated; ls src/b/dependency > src/b/generated/list\n";
    let workspace = one()
        .image("b", "FROM tt-a\nCOPY dependency/c/f /f\n")
        .file("src/b/build/component.dep", "c\n")
        .file("src/b/build/inputs", "# nothing\n")
        .script("src/b/build/build-post.sh", post)
        .file("src/c/f", "1");
    workspace.xtask(&ARGUMENTS).exits_with(0);
    let plan = || {
        let output = workspace.xtask(&["build", "-n", "--json"]).exits_with(0);
        let plan: Value = serde_json::from_str(&output.stdout).unwrap();
        let steps = plan["components"].as_array().unwrap().clone();
        let state = |step: &Value| step["images"][0]["state"].as_str().unwrap().to_owned();
        steps.iter().map(state).collect::<Vec<_>>()
    };
    assert_eq!(plan(), ["up_to_date", "up_to_date"]);
    workspace.write("src/a/text", "second");
    workspace.xtask(&ARGUMENTS).exits_with(0);
    workspace.write("src/a/text", "first");
    let (tree, before) = (workspace.tree(), id(&workspace.own("tt-a")));
    assert_eq!(plan(), ["restored", "restored"]);
    let graph = workspace.xtask(&["graph", "--stale"]).exits_with(0);
    assert!(graph.stdout.contains("  restored  tt-a will be retagged"), "{}", graph.stdout);
    assert_eq!((workspace.tree(), id(&workspace.own("tt-a"))), (tree, before));
    let output = workspace.xtask(&ARGUMENTS).exits_with(0);
    let restored = "0 built, 0 up to date, 0 failed, 2 restored";
    assert!(output.stderr.contains(restored), "{}", output.stderr);
    docker(&["rmi", "-f", &workspace.own("tt-b")]);
    assert_eq!(plan()[0], "up_to_date");
    assert_ne!(plan()[1], "up_to_date");
}

#[test]
fn pushing_a_stale_image_is_warned_of_or_refused() {
    let registry = tests::registry::Registry::start();
    let config = CONFIG.replace("quay.invalid", registry.address());
    let workspace = one().file("config/services-configuration.yaml", &config);
    workspace.xtask(&["build", "-c", "config"]).exits_with(0);
    let push = |more: &[&str]| workspace.xtask(&[&["push", "-c", "config"], more].concat());
    assert!(!push(&["--deny-stale"]).exits_with(0).stderr.contains("stale"));
    workspace.write("src/a/text", "second");
    let output = push(&[]).exits_with(0);
    let stale = "image 'tt-a' is stale (src/a/text changed): run 'cargo xtask build -s a' first";
    assert!(output.stderr.contains(&format!("warning: {stale}")), "{}", output.stderr);
    let output = push(&["--deny-stale"]).exits_with(2);
    assert!(output.stderr.contains(&format!("error: {stale}")), "{}", output.stderr);
    let same = push(&["--deny-stale", "--build-arg", "WORD=x"]).exits_with(2);
    assert!(same.stderr.contains("(src/a/text changed (+1 more))"), "{}", same.stderr);
}

/// A hook that makes a file of a name that `which` tells, and waits for `go`.
fn slow_hook() -> Workspace {
    let hook = "#!/bin/sh -e\ntouch src/a/made-$(cat which)\ntouch target/started\n\
                while [ ! -e target/go ]; do sleep 0.05; done\n";
    one()
        .file("which", "1")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY . /\n")
}

#[test]
fn a_file_that_somebody_saves_while_a_hook_runs_is_not_lost() {
    let ignoring = slow_hook().file(".gitignore", "/target\nprecious\n").git();
    for workspace in [slow_hook(), ignoring] {
        let at = |path: &str| workspace.root().join(path);
        let running = workspace.start(&ARGUMENTS);
        wait_until("the hook", || at("target/started").exists());
        workspace.write("src/a/precious", "mine");
        workspace.write("target/go", "");
        running.finish().exits_with(0);
        let mut named = 0;
        for which in ["1", "1", "2", "2"] {
            workspace.write("which", which);
            let output = workspace.xtask(&ARGUMENTS).exits_with(0);
            named += output.stderr.matches("src/a/precious: appeared while hooks ran").count();
            assert_eq!(fs::read_to_string(at("src/a/precious")).unwrap(), "mine");
            assert!(image_tree(&workspace.own("tt-a"))["precious"].ends_with("mine"));
        }
        assert_eq!(named, 1, "once is enough");
        assert!(at("src/a/made-2").exists() && !at("src/a/made-1").exists());
    }
}

#[test]
fn a_file_that_is_saved_whenever_a_hook_runs_is_not_lost() {
    let workspace = slow_hook().file("src/b/same", "mine").file("src/b/.keep", "");
    let at = |path: &str| workspace.root().join(path);
    let run = |saves: bool| {
        for path in ["target/started", "target/go"] {
            drop(fs::remove_file(at(path)));
        }
        let running = workspace.start(&ARGUMENTS);
        wait_until("the hook", || at("target/started").exists());
        if saves {
            workspace.write("src/a/precious", "mine");
            fs::create_dir_all(at("src/a/new/empty")).unwrap();
        }
        workspace.write("target/go", "");
        running.finish().exits_with(0).stderr
    };
    for saves in [true, true, false, false] {
        let _ = run(saves);
        assert_eq!(fs::read_to_string(at("src/a/precious")).unwrap(), "mine");
        let tree = image_tree(&workspace.own("tt-a"));
        assert!(tree["precious"].ends_with("mine") && tree.contains_key("new/empty"), "{tree:?}");
    }
}

#[test]
fn what_was_put_back_is_not_set_aside_after_a_build_that_was_killed() {
    let workspace = slow_hook();
    let at = |path: &str| workspace.root().join(path);
    let start = || {
        for path in ["target/started", "target/go"] {
            drop(fs::remove_file(at(path)));
        }
        let running = workspace.start(&ARGUMENTS);
        wait_until("the hook", || at("target/started").exists());
        running
    };
    let running = start();
    workspace.write("src/a/precious", "mine");
    workspace.write("target/go", "");
    running.finish().exits_with(0);
    // Set aside, missed, and put back: the hook runs once more.
    let running = start();
    fs::remove_file(at("target/started")).unwrap();
    workspace.write("target/go", "");
    wait_until("the second run", || at("target/started").exists());
    running.signal(rustix::process::Signal::KILL);
    drop(running.finish());
    for _ in 0..2 {
        let running = start();
        assert!(at("src/a/precious").exists(), "it is not set aside again");
        workspace.write("target/go", "");
        let output = running.finish().exits_with(0);
        assert!(!output.stderr.contains("appeared while"), "{}", output.stderr);
    }
}

#[test]
fn what_a_hook_left_that_was_killed_or_failed_is_not_copied_into() {
    let hook = "#!/bin/sh -e\ncp -r version src/a/version\ntouch target/started\n\
                while [ ! -e target/go ]; do sleep 0.05; done\nexit $(cat status)\n";
    for is_killed in [true, false] {
        let workspace = one()
            .file("version/1.txt", "1")
            .file("status", "3")
            .script("src/a/build/build-pre.sh", hook)
            .image("a", "FROM scratch\nCOPY . /\n");
        let at = |path: &str| workspace.root().join(path);
        let running = workspace.start(&ARGUMENTS);
        wait_until("the hook", || at("target/started").exists());
        if is_killed {
            running.signal(rustix::process::Signal::KILL);
            drop(running.finish());
        } else {
            workspace.write("target/go", "");
            running.finish().exits_with(1);
        }
        workspace.write("src/a/new", "mine");
        workspace.write("target/go", "");
        workspace.write("status", "0");
        fs::rename(at("version/1.txt"), at("version/2.txt")).unwrap();
        for _ in 0..2 {
            workspace.xtask(&ARGUMENTS).exits_with(0);
            let tree = image_tree(&workspace.own("tt-a"));
            let copied = tree.keys().filter(|path| path.starts_with("version"));
            assert_eq!(copied.collect::<Vec<_>>(), ["version", "version/2.txt"], "{is_killed}");
            assert!(tree["new"].ends_with("mine"));
        }
        assert_eq!(fs::read_to_string(at("src/a/new")).unwrap(), "mine");
    }
}

#[test]
fn hooks_find_what_came_while_they_ran_or_after_they_failed() {
    let hook = "#!/bin/sh -e\ntouch target/started\n\
                while [ ! -e target/go ]; do sleep 0.05; done\n\
                [ ! -e needs ] || cat src/a/new >> src/a/text\n\
                mkdir src/a/generated\n\
                [ ! -e src/a/new ] || cp src/a/new src/a/generated/\n";
    let workspace =
        || one().script("src/a/build/build-pre.sh", hook).image("a", "FROM scratch\nCOPY . /\n");
    let finds_it = |workspace: &Workspace| {
        workspace.xtask(&ARGUMENTS).exits_with(0);
        let tree = image_tree(&workspace.own("tt-a"));
        assert!(tree["generated/new"].ends_with("mine"), "{tree:?}");
    };
    for needs in [false, true] {
        let workspace = workspace();
        let running = workspace.start(&ARGUMENTS);
        wait_until("the hook", || workspace.root().join("target/started").exists());
        workspace.write("src/a/new", "mine");
        workspace.write("target/go", "");
        running.finish().exits_with(0);
        if needs {
            workspace.write("needs", "");
        }
        finds_it(&workspace);
        finds_it(&workspace);
    }
    let workspace = workspace().file("needs", "").file("target/go", "");
    workspace.xtask(&ARGUMENTS).exits_with(1);
    workspace.write("src/a/new", "mine");
    finds_it(&workspace);
}

#[test]
fn what_a_hook_left_is_back_after_a_build_that_was_killed_or_failed() {
    let workspace = slow_hook();
    let at = |path: &str| workspace.root().join(path);
    workspace.write("target/go", "");
    workspace.xtask(&ARGUMENTS).exits_with(0);
    fs::write(at("src/a/made-1"), "").unwrap();
    let left = |path: &Path| path.symlink_metadata().is_ok();
    assert!(left(&at("src/a/made-1")));
    fs::remove_file(at("target/go")).unwrap();
    fs::remove_file(at("target/started")).unwrap();
    workspace.write("which", "2");
    let running = workspace.start(&ARGUMENTS);
    wait_until("the hook", || at("target/started").exists());
    running.signal(rustix::process::Signal::KILL);
    drop(running.finish());
    workspace.write("target/go", "");
    workspace.write("src/a/build/build-pre.sh", "#!/bin/sh\nexit 3\n");
    workspace.xtask(&ARGUMENTS).exits_with(1);
    assert!(left(&at("src/a/made-1")), "it was aside when the build was killed");
}
