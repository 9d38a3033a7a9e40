//! What `build` does to a workspace that is right.

use tests::engine::{Proxy, docker, has_image, image_tree};
use tests::{Workspace, repository};

const BASE: &str = "FROM scratch\nCOPY build /build\n";

#[test]
fn components_are_built_in_the_order_of_what_they_need() {
    let workspace = Workspace::new()
        .image("a", "FROM tt-z\nCOPY --from=tt-m /build /m\n")
        .image("m", BASE)
        .file("src/m/build/component.dep", "# comment\r\n\r\n  q  \r\n")
        .image("q", BASE)
        .image(
            "z",
            "ARG BASE=tt-q:latest\nfrom --platform=linux/amd64 ${BASE} as base\nFROM base\n",
        );
    let output = workspace.xtask(&["build"]).exits_with(0);
    let built = output.built();
    let place = |name: &str| built.iter().position(|built| *built == name).unwrap();
    for (needed, dependent) in [("q", "m"), ("q", "z"), ("m", "a"), ("z", "a")] {
        assert!(place(needed) < place(dependent), "{built:?}");
    }
    assert!(image_tree(&workspace.own("tt-a")).contains_key("m"));
}

#[test]
fn selected_components_bring_what_they_need_and_nothing_else() {
    let forms: [&[&str]; 3] = [&["-s", "b", "c"], &["-s", "b,c"], &["-s", "b", "-s", "c"]];
    for form in forms {
        let workspace = Workspace::new()
            .image("a", BASE)
            .image("b", "FROM tt-a\n")
            .image("c", BASE)
            .image("d", BASE);
        let output = workspace.xtask(&[&["build"], form].concat()).exits_with(0);
        assert_eq!(output.built_by_name(), ["a", "b", "c"]);
        assert!(!has_image(&workspace.own("tt-d")));
    }
}

#[test]
fn the_root_is_found_from_any_folder_below_it() {
    let workspace = Workspace::new().image("a", BASE).file("src/a/src/lib.rs", "");
    let root = workspace.root().display().to_string();
    let nested = workspace.xtask_in("src/a/src", &["build"]).exits_with(0);
    let outside = Workspace::new().xtask(&["build", "--no-cache", "--root", &root]).exits_with(0);
    assert_eq!((nested.built(), outside.built()), (vec!["a"], vec!["a"]));
}

#[test]
fn a_component_with_hooks_finds_what_it_needs_on_disk() {
    let workspace = Workspace::new()
        .file("src/given/text", "given\n")
        .script("src/made/build/build-post.sh", "#!/bin/sh\nmkdir -p src/made/generated\necho made > src/made/generated/text\n")
        .file("src/user/build/component.dep", "given\nmade\n")
        .file(
            "src/user/build/build-pre.sh",
            "#!/bin/sh -e\n# not executable\n\
             [ \"$0\" = src/user/build/build-pre.sh ]\n\
             mkdir -p src/user/generated\n\
             cat src/user/dependency/*/text src/user/dependency/made/generated/text > src/user/generated/all 2>/dev/null || true\n\
             echo \"word: $WORD\"\n",
        )
        .image("user", "FROM scratch\nCOPY generated/all /all\nCOPY dependency/made/generated/text /text\n")
        .env("WORD", "passed on");
    let before = workspace.tree();
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("| word: passed on"), "{}", output.stderr);
    let image = image_tree(&workspace.own("tt-user"));
    assert!(image["all"].ends_with("given\nmade\n"), "{image:?}");
    assert_eq!(workspace.tree(), before);
}

#[test]
fn without_hooks_dependencies_are_streamed_without_their_own() {
    let workspace = Workspace::new()
        .image("a", BASE)
        .file("src/a/text", "of a")
        .image("b", "FROM scratch\nCOPY dependency/a/text /\n")
        .file("src/b/build/component.dep", "a")
        .image("c", "FROM scratch\nCOPY dependency /dependency\n")
        .file("src/c/build/components.dep", "b");
    workspace.xtask(&["build"]).exits_with(0);
    let image = image_tree(&workspace.own("tt-c"));
    let has_dependency = |path: &&String| path.starts_with("dependency/");
    let paths: Vec<&str> = image.keys().filter(has_dependency).map(String::as_str).collect();
    let expected = ["dependency/b", "dependency/b/build", "dependency/b/build/component.dep"];
    assert_eq!(
        &paths[..],
        [&expected.map(String::from)[..], &[workspace.own("dependency/b/build/tt-b.dockerfile")]]
            .concat()
    );
    assert!(image_tree(&workspace.own("tt-b")).contains_key("text"));
}

#[test]
fn images_of_one_component_are_ordered_and_flavors_chosen() {
    let workspace = Workspace::new()
        .file("src/a/build/tt-one.dockerfile", "FROM tt-two\n")
        .file("src/a/build/tt-two.k8s.dockerfile", "FROM scratch\nLABEL flavor=k8s\nCOPY build /\n")
        .file(
            "src/a/build/tt-two.common.dockerfile",
            "FROM scratch\nLABEL flavor=common\nCOPY build /\n",
        );
    for (flavor, taken) in [("k8s", "k8s"), ("yarn", "common")] {
        workspace.xtask(&["build", "--flavor", flavor]).exits_with(0);
        let format = "{{index .Config.Labels \"flavor\"}}";
        let label = docker(&["image", "inspect", "--format", format, &workspace.own("tt-one")]);
        assert_eq!(String::from_utf8_lossy(&label).trim(), taken);
    }
}

#[test]
fn build_args_choose_bases_and_reach_instructions() {
    let workspace = Workspace::new()
        .with_box()
        .image("a", "ARG BASE\nFROM ${BASE}\nARG WORD=no\nRUN echo \"$WORD\" > /word\n");
    let args = ["build", "--build-arg", "BASE=tt-box", "--build-arg", "WORD=a b=c"];
    workspace.xtask(&args).exits_with(0);
    assert!(image_tree(&workspace.own("tt-a"))["word"].ends_with("a b=c\n"));
}

#[test]
fn an_image_is_ours_under_the_configured_registry_too() {
    let config = "cluster: {docker-registry: {domain: nowhere.invalid, namespace: ns}}";
    let workspace = Workspace::new()
        .file("config/services-configuration.yaml", config)
        .image("a", "FROM nowhere.invalid/ns/tt-b:latest\n")
        .image("b", BASE);
    let output = workspace.xtask(&["build", "-c", "config"]).exits_with(0);
    assert_eq!(output.built(), ["b", "a"]);
}

#[test]
fn the_classic_builder_makes_the_same_image() {
    let workspace =
        Workspace::new().with_box().image("a", "FROM tt-box\nCOPY build /build\nRUN echo hello\n");
    let trees = ["buildkit", "classic"].map(|builder| {
        let output = workspace.xtask(&["build", "--builder", builder, "--no-cache"]).exits_with(0);
        assert!(output.stderr.contains("| hello"), "{}", output.stderr);
        image_tree(&workspace.own("tt-a"))
    });
    assert_eq!(trees[0], trees[1]);
}

#[test]
fn a_dockerfile_outside_a_build_folder_is_warned_of() {
    let workspace = Workspace::new().image("a", BASE).file("src/a/stray.dockerfile", "FROM x\n");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(
        output.stderr.contains("warning: src/a/stray.dockerfile: is not in a component's build/")
    );
}

#[test]
fn this_repository_builds_itself() {
    let names = ["base-image", "component-b", "probe", "probe-debug", "toolbox"];
    let had: Vec<bool> = names.iter().map(|name| has_image(name)).collect();
    let root = repository().display().to_string();
    let workspace = Workspace::new();
    let output = workspace.xtask(&["build", "--no-cache", "--root", &root]).exits_with(0);
    assert_eq!(output.built_by_name(), ["base-image", "componentB", "probe", "toolbox"]);
    let shown = docker(&["run", "--rm", "probe"]);
    assert!(String::from_utf8_lossy(&shown).ends_with("  peek\n"));
    for (name, _) in names.iter().zip(had).filter(|(_, had)| !had) {
        docker(&["rmi", name]);
    }
}

#[test]
fn answers_that_come_in_pieces_are_put_together() {
    let proxy = Proxy::start();
    proxy.halt_at_ends();
    let workspace = Workspace::new().image("a", BASE).env("DOCKER_HOST", &proxy.host());
    for builder in ["buildkit", "classic"] {
        workspace.xtask(&["build", "--force", "--builder", builder]).exits_with(0);
    }
}
