//! Only what can be read is sent, and that changes no image.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use fastrand::Rng;
use tests::Workspace;
use tests::engine::{builders, cli_build, docker, has_image, image_tree};

const NOTHING: [&str; 0] = [];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Files, folders and links that sources may name, pass through or miss.
const FILES: [&str; 12] = [
    "a",
    "b.txt",
    "c.txt",
    "d/a",
    "d/b.txt",
    "d/e/c.txt",
    "d/e/f/a",
    "g/a",
    "g/e/b.txt",
    "h i/a",
    "[x]/a",
    "a1",
];

const LINKS: [(&str, &str); 8] = [
    ("link", "a"),
    ("d/link", "e"),
    ("g/link", "../d"),
    ("g/e/up", "../.."),
    ("far", "/d/e"),
    ("broken", "none"),
    ("d/e/link", "../../g/link"),
    ("h i/link", "a"),
];

const SOURCES: [&str; 30] = [
    "a",
    "./b.txt",
    "/d",
    "d/",
    "d/e",
    "g/e/..",
    "../a",
    "*.txt",
    "?",
    "a[0-9]",
    "a[^0-9]",
    "[a-d]*",
    "*/a",
    "d/*",
    "*/e/*",
    "*",
    "none",
    "link",
    "d/link",
    "d/link/c.txt",
    "g/link/a",
    "g/link",
    "far",
    "far/c.txt",
    "dependency",
    "dependency/dep/d",
    "dependency/*/a",
    "empty",
    ".dockerignore",
    ".",
];

/// A random Dockerfile; `tt-box` has a shell.
fn dockerfile(rng: &mut Rng) -> String {
    let mut text = String::new();
    let has_global = rng.bool();
    if has_global {
        text.push_str("ARG WHERE=d\n");
    }
    let stages = if rng.u8(0..3) == 0 { 2 } else { 1 };
    for stage in 0..stages {
        let base = if rng.bool() { "scratch" } else { "tt-box" };
        text.push_str(&format!("FROM {base} AS s{stage}\n"));
        for place in 0..rng.usize(1..3) {
            text.push_str(&instruction(rng, stage, place));
        }
    }
    text.push_str("LABEL made=1\n");
    text
}

fn instruction(rng: &mut Rng, stage: usize, place: usize) -> String {
    let to = format!("/to{stage}{place}/");
    let source = *rng.choice(&SOURCES).expect("one");
    let other = *rng.choice(&SOURCES).expect("one");
    match rng.u8(0..16) {
        0..=5 => format!("COPY {source} {to}\n"),
        6 => format!("COPY {source} \\\n# no\n  {other} {to}\n"),
        7 => format!("COPY [\"{source}\", \"h i\", \"{to}\"]\n"),
        8 => format!("ADD {source} archive.tar {to}\n"),
        9 => format!("COPY --chown=3:4 {source} {to}\n"),
        10 => format!("ENV DIR={source}\nCOPY $DIR {to}\n"),
        11 => format!("ARG WHERE\nCOPY ${{WHERE}}/a {to}\n"),
        12 => format!("ARG OTHER=g\nCOPY $OTHER {to}\n"),
        13 if stage > 0 => format!("COPY --from=s0 / {to}\n"),
        13 => format!("COPY {source} {other} {to}\n"),
        14 => format!(
            "RUN --mount=type=bind,source={source},target=/mnt mkdir -p {to} && cp -r /mnt {to}\n"
        ),
        _ => format!("RUN --mount=target=/mnt cp -r /mnt/d {to}\n"),
    }
}

/// Many components with random trees and Dockerfiles.
fn random(rng: &mut Rng, count: usize) -> Workspace {
    let mut workspace = Workspace::new().with_box();
    let archive = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        archive.append_data(&mut header, "packed", &b"x\n"[..]).unwrap();
        archive.into_inner().unwrap()
    };
    for file in ["a", "d/x", "d/y", "e"] {
        workspace = workspace.file(&format!("src/dep/{file}"), file);
    }
    for name in (0..count).map(|place| format!("c{place}")) {
        workspace = workspace
            .image(&name, &dockerfile(rng))
            .file(&format!("src/{name}/build/component.dep"), "dep\n");
        let dir = workspace.root().join("src").join(&name);
        fs::create_dir(dir.join("empty")).unwrap();
        workspace.write_bytes(&format!("src/{name}/archive.tar"), &archive);
        for file in FILES.iter().filter(|_| rng.u8(0..9) > 0) {
            workspace.write(&format!("src/{name}/{file}"), &format!("{file} of {name}\n"));
        }
        for (link, target) in LINKS.iter().filter(|_| rng.u8(0..3) == 0) {
            fs::create_dir_all(dir.join(link).parent().unwrap()).unwrap();
            symlink(target, dir.join(link)).unwrap();
        }
        let rules = ["", "*.txt\n", "d\n!d/e\n", ".dockerignore\nbuild\n", "g/link\n"];
        if rng.bool() {
            let rules = *rng.choice(&rules).unwrap();
            workspace.write(&format!("src/{name}/.dockerignore"), rules);
        }
    }
    workspace
}

type Made = BTreeMap<String, Option<BTreeMap<String, String>>>;

/// Builds all, and gives what was made, by component, and the exit code.
fn make(workspace: &Workspace, count: usize, arguments: &[&str]) -> (Made, i32) {
    let arguments = [&["build", "--keep-going"], arguments].concat();
    let output = workspace.xtask(&arguments);
    let mut made = Made::new();
    for name in (0..count).map(|place| format!("tt-c{place}")) {
        let own = workspace.own(&name);
        let tree = has_image(&own).then(|| image_tree(&own));
        if tree.is_some() {
            docker(&["rmi", "-f", &own]);
        }
        made.insert(name, tree);
    }
    (made, output.code)
}

#[test]
fn lean_and_whole_contexts_make_the_same_images() {
    let (seed, steps) = (number("SEED", fastrand::u64(..1 << 32)), number("STEPS", 1));
    let count = usize::try_from(number("COUNT", 4)).unwrap();
    println!("SEED={seed} STEPS={steps} COUNT={count}");
    let mut rng = Rng::with_seed(seed);
    let mut lean = 0;
    for _ in 0..steps {
        let workspace = random(&mut rng, count);
        for builder in ["buildkit", "classic"] {
            let builder = ["--builder", builder];
            let (small, small_code) = make(&workspace, count, &builder);
            let whole = [&builder[..], &["--whole-context"]].concat();
            let (large, large_code) = make(&workspace, count, &whole);
            assert_eq!(small_code, large_code);
            for (name, tree) in &small {
                let path = format!("src/{0}/build/tt-{0}.dockerfile", &name[3..]);
                let text = fs::read_to_string(workspace.root().join(workspace.own(&path)));
                assert_eq!(tree, &large[name], "SEED={seed} {builder:?} {name}\n{}", text.unwrap());
                lean += usize::from(tree.is_some());
            }
        }
    }
    println!("{lean} images are the same");
}

fn built(workspace: &Workspace, arguments: &[&str]) -> Vec<String> {
    let output = workspace.xtask(&[&["build"], arguments].concat()).exits_with(0);
    output.built_by_name().into_iter().map(str::to_owned).collect()
}

/// A component whose Dockerfile has these instructions, and two files.
fn reading(dockerfile: &str) -> Workspace {
    Workspace::new()
        .image("a", dockerfile)
        .file("src/a/read/x", "1")
        .file("src/a/other", "1")
        .file("src/dep/read", "1")
        .file("src/dep/other", "1")
        .file("src/a/build/component.dep", "dep\n")
}

#[test]
fn an_edit_that_no_instruction_can_read_builds_nothing() {
    let text = "FROM scratch\nARG WHERE=none\nCOPY read $WHERE dependency/dep/read /\n";
    let workspace = reading(text).file("src/a/none", "").file("src/a/more/x", "1");
    assert_eq!(built(&workspace, &[]), ["a"]);
    workspace.write("src/a/other", "2");
    workspace.write("src/a/new", "2");
    workspace.write("src/a/more/x", "2");
    workspace.write("src/dep/other", "2");
    assert_eq!(built(&workspace, &[]), NOTHING);
    workspace.write("src/a/read/x", "2");
    assert_eq!(built(&workspace, &[]), ["a"]);
    workspace.write("src/dep/read", "2");
    assert_eq!(built(&workspace, &[]), ["a"]);
    assert_eq!(built(&workspace, &["--build-arg", "WHERE=more"]), ["a"]);
    workspace.write("src/a/more/x", "3");
    assert_eq!(built(&workspace, &["--build-arg", "WHERE=more"]), ["a"]);
    workspace.write("src/a/build/tt-a.dockerfile", "FROM scratch\nCOPY other /\n");
    assert_eq!(built(&workspace, &[]), ["a"]);
    assert!(image_tree(&workspace.own("tt-a")).contains_key("other"));
    assert_eq!(built(&workspace, &["--whole-context"]), ["a"]);
    workspace.write("src/a/read/x", "3");
    assert_eq!(built(&workspace, &["--whole-context"]), ["a"]);
}

/// What `context` shows of a component.
fn sent(workspace: &Workspace, arguments: &[&str]) -> Vec<String> {
    let context = [&["context", "a", "--json"], arguments].concat();
    let output = workspace.xtask(&context).exits_with(0);
    let document: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let files = document["contexts"][0]["files"].as_array().unwrap().iter();
    let files = files.filter(|file| file["kind"] != "folder");
    files.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn context_shows_what_is_sent_and_every_doubt_sends_everything() {
    let workspace = reading("FROM scratch\nCOPY read/x /\n").file("src/a/.dockerignore", "none\n");
    let least = [".dockerignore", "build/tt-a.dockerfile", "read/x"];
    let all = [
        &least[..2],
        &["build/component.dep", "other", "read/x", "dependency/dep/other", "dependency/dep/read"],
    ]
    .concat();
    let sorted = |mut paths: Vec<String>| {
        paths.sort();
        paths
    };
    let all: Vec<String> = sorted(all.iter().map(|path| (*path).to_owned()).collect());
    assert_eq!(sent(&workspace, &[]), least);
    assert_eq!(sorted(sent(&workspace, &["--whole-context"])), all);
    let doubts = [
        "FROM scratch\nCOPY . /\n",
        "FROM scratch\nCOPY $NONE /\n",
        "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /\n",
        "FROM scratch\nRUN --mount=target=/x ls\n",
        "# syntax=example.org/docker/dockerfile:1\nFROM scratch\nCOPY read /\n",
        "FROM scratch AS x\nONBUILD COPY . /\nFROM x\nCOPY read /\n",
        "FROM scratch\nCOPY --strange read /\n",
    ];
    for doubt in doubts {
        workspace.write("src/a/build/tt-a.dockerfile", doubt);
        assert_eq!(sorted(sent(&workspace, &[])), all, "{doubt}");
    }
    let known = "# syntax=docker/dockerfile:1.7\n# escape=`\nFROM scratch\nENV X read\n\
                 COPY `\n \"${X:-other}\"/x /\n";
    workspace.write("src/a/build/tt-a.dockerfile", known);
    assert_eq!(sent(&workspace, &[]), least);
    symlink("other", workspace.root().join("src/a/read/link")).unwrap();
    let read = |instruction: &str| {
        let text = format!("FROM scratch\n{instruction}\n");
        workspace.write("src/a/build/tt-a.dockerfile", &text);
        sent(&workspace, &[]).len()
    };
    assert_eq!(read("COPY read/x /"), least.len());
    assert_eq!(read("COPY read/link /"), least.len(), "it leads nowhere");
    symlink("../other", workspace.root().join("src/a/read/out")).unwrap();
    assert_eq!(read("COPY read/out /"), all.len() + 2);
    assert_eq!(read("COPY read/out/x /"), all.len() + 2);
    assert_eq!(read("COPY read/out other /"), 2 + 2);
}

#[test]
fn a_base_whose_triggers_read_gets_everything() {
    let workspace = Workspace::new()
        .image("a", "FROM tt-outer\nCOPY read /\n")
        .image("b", "FROM tt-inner\nCOPY read /\n")
        .image("inner", "FROM scratch\nONBUILD COPY other /\nCOPY build /\n")
        .file("outer/Dockerfile", "FROM scratch\nENV X=1\nONBUILD COPY other /\nCOPY . /\n");
    for file in ["src/a/read", "src/a/other", "src/b/read", "src/b/other"] {
        workspace.write(file, "1");
    }
    cli_build(&workspace.root().join("outer"), "Dockerfile", &workspace.own("tt-outer"), &[]);
    assert_eq!(built(&workspace, &[]), ["a", "b", "inner"]);
    for name in ["a", "b"] {
        assert!(image_tree(&workspace.own(&format!("tt-{name}"))).contains_key("other"));
        workspace.write(&format!("src/{name}/other"), "2");
        assert_eq!(built(&workspace, &[]), [name]);
        workspace.write(&format!("src/{name}/third"), "2");
        assert_eq!(built(&workspace, &[]), [name]);
    }
}

#[test]
fn where_a_base_sets_the_variable_too_everything_is_sent() {
    let workspace = Workspace::new()
        .image("a", "FROM tt-outer\nARG X=read\nCOPY $X /\n")
        .file("outer/Dockerfile", "FROM scratch\nENV X=other\nCOPY . /\n")
        .file("src/a/read", "1")
        .file("src/a/other", "1");
    cli_build(&workspace.root().join("outer"), "Dockerfile", &workspace.own("tt-outer"), &[]);
    assert_eq!(built(&workspace, &[]), ["a"]);
    for file in ["read", "other", "third"] {
        workspace.write(&format!("src/a/{file}"), "2");
        assert_eq!(built(&workspace, &[]), ["a"]);
    }
    assert_eq!(built(&workspace, &[]), NOTHING);
}

#[test]
fn the_ignore_file_is_copied_like_any_other() {
    for dockerfile in [
        "FROM scratch\nCOPY f .dockerignore /\n",
        "FROM scratch\nCOPY f /\nCOPY *.dockerignore /\n",
        "FROM scratch\nCOPY [\"f\", \"web.dockerignore\", \".dockerignore\", \"/\"]\n",
        "FROM scratch\nCOPY .dockerignore /\n",
    ] {
        let workspace = Workspace::new()
            .image("a", dockerfile)
            .file("src/a/f", "1")
            .file("src/a/web.dockerignore", "1")
            .file("src/a/.dockerignore", "none\n");
        for builder in builders() {
            assert_eq!(built(&workspace, &["--force", "--builder", builder]), ["a"]);
            let tree = image_tree(&workspace.own("tt-a"));
            assert!(tree.contains_key(".dockerignore"), "{builder}: {dockerfile}");
            let copies_f = [" f ", "\"f\""].iter().any(|f| dockerfile.contains(f));
            assert_eq!(tree.contains_key("f"), copies_f, "{builder}: {dockerfile}");
        }
    }
}

#[test]
fn folders_above_what_is_read_count_for_nothing() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY */f /x/\nCOPY d/e/g /\n")
        .file("src/a/d/f", "1")
        .file("src/a/d/e/g", "1");
    for builder in builders() {
        assert_eq!(built(&workspace, &["--force", "--builder", builder]), ["a"]);
        let tree = image_tree(&workspace.own("tt-a"));
        assert!(tree.contains_key("x/f") && tree.contains_key("g"), "{builder}: {tree:?}");
    }
    workspace.write("src/a/other/file", "1");
    for folder in ["d", "d/e"] {
        let folder = workspace.root().join("src/a").join(folder);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(built(&workspace, &[]), NOTHING);
    workspace.write("src/a/other/f", "1");
    assert_eq!(built(&workspace, &[]), ["a"]);
}

#[test]
fn a_link_back_out_of_what_another_leads_to_is_the_file_that_the_builder_finds() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY l sub/f /\n")
        .file("src/a/other/f", "by folders")
        .file("src/a/other/deep/f", "1")
        .file("src/a/sub/f", "by names");
    let dir = workspace.root().join("src/a");
    symlink("../other/deep", dir.join("sub/k")).unwrap();
    symlink("sub/k/../f", dir.join("l")).unwrap();
    for builder in builders() {
        let made = [&["--whole-context"][..], &[]].map(|options| {
            let arguments = [&["--force", "--builder", builder], options].concat();
            assert_eq!(built(&workspace, &arguments), ["a"]);
            image_tree(&workspace.own("tt-a"))
        });
        assert_eq!(made[0], made[1], "{builder}");
    }
}

#[test]
fn names_with_other_spaces_than_those_of_ascii_are_whole() {
    let name = "x\u{3000}at_10\u{202f}AM\u{a0}.png";
    let workspace = Workspace::new()
        .image("a", &format!("FROM scratch\nCOPY {name} /d/\n"))
        .file(&format!("src/a/{name}"), "1")
        .file("src/a/other", "1");
    for builder in builders() {
        assert_eq!(built(&workspace, &["--force", "--builder", builder]), ["a"]);
        assert!(image_tree(&workspace.own("tt-a")).contains_key(&format!("d/{name}")), "{builder}");
    }
    workspace.write("src/a/other", "2");
    assert_eq!(built(&workspace, &[]), NOTHING);
}

#[test]
fn an_ignored_dockerfile_is_in_no_image() {
    for (file, rules) in [
        ("src/a/.dockerignore", ".dockerignore\nbuild\n"),
        ("src/a/build/tt-a.dockerfile.dockerignore", "build\n"),
    ] {
        let workspace = Workspace::new()
            .image("a", "FROM scratch\nCOPY . /x/\n")
            .file("src/a/f", "1")
            .file(file, rules);
        for builder in builders() {
            assert_eq!(built(&workspace, &["--force", "--builder", builder]), ["a"]);
            let paths = image_tree(&workspace.own("tt-a")).into_keys();
            let copied: Vec<String> = paths.filter(|path| path.starts_with('x')).collect();
            assert_eq!(copied, ["x", "x/f"], "{builder}: {file}");
        }
    }
}
