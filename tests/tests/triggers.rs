//! `ONBUILD` instructions are run as those of the Dockerfile that is built `FROM` their image: what
//! they read is a stage of it, or an image.

use std::collections::BTreeMap;

use tests::Workspace;
use tests::engine::{cli_build, image_config, image_files, import_file};

/// BuildKit runs those with `--from` since Docker 27.3.
const BUILD: [&str; 3] = ["build", "--builder", "classic"];

const NOTHING: [&str; 0] = [];

fn built(workspace: &Workspace) -> Vec<String> {
    let output = workspace.xtask(&BUILD).exits_with(0);
    output.built_by_name().into_iter().map(str::to_owned).collect()
}

/// Makes the image `tt-outer`, which is no component's.
fn make_outer(workspace: &Workspace, dockerfile: &str) {
    workspace.write("outer/Dockerfile", dockerfile);
    cli_build(&workspace.root().join("outer"), "Dockerfile", &workspace.own("tt-outer"), &[]);
}

fn files(workspace: &Workspace, image: &str) -> BTreeMap<String, String> {
    image_files(&workspace.own(image))
}

/// `a` is built from an image of nobody's and `b` from one of ours, whose triggers read from what
/// is called `source`. What that is made from, `tt-ext`, is an input of both.
fn follow_what_triggers_read(source: &str, first_stage: &str) {
    let trigger = format!("ONBUILD COPY --from={source} /f /g\n");
    let workspace = Workspace::new()
        .image("a", &format!("{first_stage}FROM tt-outer\nCOPY f /\n"))
        .image(
            "b",
            &format!("{}FROM tt-base\nCOPY f /\n", first_stage.replace("Builder", "builder")),
        )
        .image("base", &format!("FROM scratch\nCOPY f /\n{trigger}"))
        .file("src/a/f", "1")
        .file("src/b/f", "1")
        .file("src/base/f", "1");
    make_outer(&workspace, &format!("FROM scratch\nCOPY . /\n{trigger}"));
    import_file(&workspace.own("tt-ext"), "f", "1");
    assert_eq!(built(&workspace), ["a", "b", "base"]);
    import_file(&workspace.own("tt-ext"), "f", "2");
    assert_eq!(built(&workspace), ["a", "b"]);
    for image in ["tt-a", "tt-b"] {
        assert!(files(&workspace, image)["g"].ends_with('2'), "{image}");
    }
    assert_eq!(built(&workspace), NOTHING);
}

#[test]
fn a_stage_that_only_a_base_s_trigger_reads_is_an_input() {
    follow_what_triggers_read("builder", "FROM tt-ext AS Builder\n");
}

#[test]
fn an_image_that_only_a_base_s_trigger_names_is_an_input_of_what_is_built_from_it() {
    follow_what_triggers_read("tt-ext", "");
}

#[test]
fn an_image_of_the_workspace_that_only_a_base_s_trigger_names_has_to_be_named() {
    let workspace = Workspace::new()
        .image("a", "FROM tt-outer\nCOPY f /\n")
        .image("lib", "FROM scratch\nCOPY f /\n")
        .file("src/a/f", "1")
        .file("src/lib/f", "1");
    make_outer(&workspace, "FROM scratch\nCOPY . /\nONBUILD COPY --from=tt-lib /f /g\n");
    let output = workspace.xtask(&BUILD).exits_with(1);
    let expected = "src/a/build/tt-a.dockerfile:1: an ONBUILD instruction of tt-outer reads \
                    'tt-lib', an image of this workspace that the Dockerfile does not name, so it \
                    may be built later: put a line 'FROM tt-lib' before this one";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-lib\nFROM tt-outer\nCOPY f /\n");
    assert!(built(&workspace).contains(&"a".to_owned()));
    workspace.write("src/lib/f", "2");
    assert_eq!(built(&workspace), ["a", "lib"]);
    assert!(files(&workspace, "tt-a")["g"].ends_with('2'));
    assert_eq!(built(&workspace), NOTHING);
}

#[test]
fn a_build_arg_that_a_trigger_of_ours_reads_counts() {
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY build /\nONBUILD ARG X\nONBUILD LABEL x=$X\n")
        .image("web", "FROM tt-base\nCOPY build /web\n")
        .file("xtask.toml", "[image.\"tt-w*\"]\nargs.X = \"1\"\n");
    assert_eq!(built(&workspace), ["base", "web"]);
    workspace.write("xtask.toml", "[image.\"tt-w*\"]\nargs.X = \"2\"\n");
    assert_eq!(built(&workspace), ["web"]);
    assert_eq!(image_config(&workspace.own("tt-web"))["Labels"]["x"], "2");
}
