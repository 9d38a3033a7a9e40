//! The options of `docker build`, on the command line and in `xtask.toml`: what they make is what
//! the docker CLI makes with the same option.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use expect_test::expect;
use tests::engine::{
    cli_build, docker, has_containerd_store, image_config, image_files, image_tree, major_version,
};
use tests::{Output, Workspace};

const DOCKERFILE: &str = "FROM scratch AS one\nCOPY one /\nFROM scratch AS two\nCOPY two /\n";

fn workspace(dockerfile: &str) -> Workspace {
    Workspace::new().with_box().image("a", dockerfile).file("src/a/one", "1").file("src/a/two", "2")
}

/// The image of `a` is what the docker CLI makes with these options.
fn is_as_by_the_cli(workspace: &Workspace, arguments: &[&str], options: &[&str]) {
    for builder in ["buildkit", "classic"] {
        let all = [&["build", "--builder", builder, "--force"], options].concat();
        let _ = workspace.xtask(&[&all[..], arguments].concat()).exits_with(0);
        let (own, cli) = (workspace.own("tt-a"), workspace.own("tt-cli"));
        let dockerfile = workspace.own("build/tt-a.dockerfile");
        cli_build(&workspace.root().join("src/a"), &dockerfile, &cli, options);
        assert_eq!(image_files(&own), image_files(&cli), "{builder} {options:?}");
        assert_eq!(image_config(&own), image_config(&cli), "{builder} {options:?}");
    }
}

#[test]
fn a_target_and_labels_are_those_of_the_cli() {
    let workspace = workspace(DOCKERFILE);
    is_as_by_the_cli(&workspace, &[], &["--target", "one", "--label", "a.b=c d", "--label", "e="]);
    is_as_by_the_cli(&workspace, &[], &["--target", "TWO"]);
    let output = workspace.xtask(&["build", "--target", "tow"]).exits_with(2);
    assert!(output.error().contains("has no stage 'tow' (did you mean 'two'?)"), "{output:?}");
}

#[test]
fn an_option_counts_as_what_the_image_is_made_from() {
    let workspace = workspace(DOCKERFILE);
    let _ = workspace.xtask(&["build", "--target", "one"]).exits_with(0);
    let again = workspace.xtask(&["build", "--target", "one"]).exits_with(0);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
    let without = workspace.xtask(&["build", "-v"]).exits_with(0);
    assert!(without.stderr.contains("    target removed"), "{without:?}");
    assert!(image_tree(&workspace.own("tt-a")).contains_key("two"));
    // A file of a stage that is not built makes nothing stale.
    let _ = workspace.xtask(&["build", "--target", "one"]).exits_with(0);
    workspace.write("src/a/two", "edited");
    let unread = workspace.xtask(&["build", "--target", "one"]).exits_with(0);
    assert!(!unread.stderr.contains(" built\n"), "{}", unread.stderr);
}

#[test]
fn a_network_and_hosts_are_those_of_the_cli() {
    let workspace = workspace("FROM tt-box\nRUN cat /etc/hosts > /all; ls /sys/class/net > /net\n");
    for builder in ["buildkit", "classic"] {
        let _ = workspace
            .xtask(&[
                "build",
                "--force",
                "--builder",
                builder,
                "--network",
                "none",
                "--add-host",
                "one.example:10.0.0.1",
                "--add-host",
                "two.example=10.0.0.2",
            ])
            .exits_with(0);
        let files = image_files(&workspace.own("tt-a"));
        let (hosts, net) = (&files["all"], &files["net"]);
        assert!(hosts.contains("10.0.0.1\tone.example"), "{builder}: {hosts}");
        assert!(hosts.contains("10.0.0.2\ttwo.example"), "{builder}: {hosts}");
        assert!(net.ends_with("lo\n"), "{builder}: {net}");
    }
}

#[test]
fn options_are_for_the_images_that_are_named() {
    let workspace = workspace("FROM scratch AS base\nCOPY one /\nFROM base\nCOPY two /\n")
        .image("b", "FROM tt-a AS base\nLABEL of=b\nFROM base AS other\nLABEL of=other\n");
    let _ = workspace.xtask(&["build", "b", "--target", "base", "--label", "x=y"]).exits_with(0);
    assert!(image_tree(&workspace.own("tt-a")).contains_key("two"));
    let labels = image_config(&workspace.own("tt-b"))["Labels"].clone();
    assert_eq!(labels["of"], "b");
    assert_eq!(labels["x"], "y");
    assert!(image_config(&workspace.own("tt-a"))["Labels"].is_null());
}

#[test]
fn options_are_for_what_paths_and_groups_lead_to() {
    let toml = "[image.\"tt-{app}\"]\ndockerfile = \"images/{app}/Dockerfile\"\n\
                [group]\ng = [\"web\"]\n";
    let workspace = Workspace::new()
        .file("xtask.toml", toml)
        .file("images/web/Dockerfile", DOCKERFILE)
        .file("images/web/one", "1")
        .file("images/web/two", "2")
        .file("images/lib/file", "");
    for word in ["web", "tt-web", "images/web/", "images/web/Dockerfile", "g", "./images/web"] {
        let build = ["build", word, "--target", "one", "--force"];
        let _ = workspace.xtask(&build).exits_with(0);
        let files = image_tree(&workspace.own("tt-web"));
        assert!(files.contains_key("one") && !files.contains_key("two"), "{word}: {files:?}");
        let wrong = workspace.xtask(&["build", word, "--target", "nosuch"]).exits_with(2);
        assert!(wrong.error().contains("has no stage 'nosuch'"), "{word}: {wrong:?}");
        let why = workspace.xtask(&["why", word]).exits_with(0);
        assert!(why.stdout.contains("tt-web"), "{word}: {why:?}");
    }
}

#[test]
fn options_are_not_for_what_the_selected_images_depend_on() {
    let workspace = Workspace::new()
        .image("b", "FROM scratch\nCOPY build /\n")
        .image("a", "FROM tt-b\nLABEL of=a\n")
        .file("src/lib/file", "")
        .file("xtask.toml", "[group]\ndefault = [\"a\"]\n")
        .git();
    commit(workspace.root());
    let labels = |image: &str| image_config(&workspace.own(image))["Labels"].clone();
    for build in [&["build"][..], &["build", "default"]] {
        let _ = workspace.xtask(&[build, &["--force", "--label", "x=y"]].concat()).exits_with(0);
        assert_eq!(labels("tt-a")["x"], "y", "{build:?}");
        assert!(labels("tt-b").is_null(), "{build:?}: {}", labels("tt-b"));
        let _ = workspace.xtask(&["build"]).exits_with(0);
    }
    workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-b\nLABEL of=other\n");
    let since = ["build", "--since", "HEAD", "--label", "x=z", "--no-cache-filter", "s"];
    let unknown = workspace.xtask(&since).exits_with(2);
    assert!(unknown.error().contains("has a stage 's'"), "{unknown:?}");
    let _ = workspace.xtask(&since[..5]).exits_with(0);
    assert_eq!(labels("tt-a")["x"], "z");
    assert!(labels("tt-b").is_null(), "{}", labels("tt-b"));
    // Nothing that is selected may be anything to a build of what changed.
    workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-b\nLABEL of=a\n");
    let _ = workspace.xtask(&since[..5]).exits_with(0);
    let none = workspace.xtask(&["build", "lib", "--label", "x=y"]).exits_with(2);
    assert!(none.error().contains("--label: what is selected makes no image"), "{none:?}");
}

fn commit(root: &Path) {
    let git = |arguments: &[&str]| {
        let user = ["-c", "user.name=x", "-c", "user.email=x@x"];
        Command::new("git").current_dir(root).args(user).args(arguments).status().unwrap()
    };
    assert!(git(&["commit", "-qm", "x"]).success());
}

#[test]
fn a_platform_chooses_its_base_and_several_are_refused() {
    let dockerfile = "FROM tt-base-$TARGETARCH\nARG TARGETPLATFORM\n\
                      LABEL for=$TARGETPLATFORM\nCOPY one /\n";
    let workspace = workspace(dockerfile)
        .file("src/base/build/tt-base-arm64.dockerfile", "FROM scratch\nLABEL arch=arm64\n")
        .file("src/base/build/tt-base-amd64.dockerfile", "FROM scratch\nLABEL arch=amd64\n");
    workspace.write("xtask.toml", "[image.tt-base-arm64]\nplatforms = [\"linux/arm64\"]\n");
    let architecture = || {
        let format = "{{.Architecture}} {{.Config.Labels.arch}} {{index .Config.Labels \"for\"}}";
        let image = workspace.own("tt-a");
        let inspected = docker(&["image", "inspect", "--format", format, &image]);
        String::from_utf8(inspected).unwrap().trim().to_owned()
    };
    let _ = workspace.xtask(&["build", "a", "--platform", "linux/arm64"]).exits_with(0);
    assert_eq!(architecture(), "arm64 arm64 linux/arm64");
    let again = workspace.xtask(&["build", "a", "--platform", "linux/arm64"]).exits_with(0);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
    let _ = workspace.xtask(&["build", "a"]).exits_with(0);
    assert_eq!(architecture(), "amd64 amd64 linux/amd64");
    let wrong = workspace.xtask(&["build", "--platform", "arm64"]).exits_with(2);
    assert!(wrong.error().contains("expected OS/ARCH[/VARIANT]"), "{wrong:?}");
}

const SECRET: &str = "FROM tt-box\nRUN --mount=type=secret,id=token,required=true \
                      cp /run/secrets/token /dev/null && echo seen > /seen\n";

#[test]
fn a_secret_is_used_and_is_written_nowhere() {
    let workspace = workspace(SECRET).file("keys/token", "bright-and-shiny");
    let secret = "bright-and-shiny";
    let variables = [("TOKEN".to_owned(), secret.to_owned())].into();
    let build = ["build", "-vv", "--timings", "--secret", "id=token,env=TOKEN"];
    let output = workspace.xtask_with(&variables, &build).exits_with(0);
    assert!(image_files(&workspace.own("tt-a")).contains_key("seen"));
    assert!(!output.stderr.contains(secret) && !output.stdout.contains(secret));
    // Its value does not count, and what was built is what it is without the file, too.
    let other = [("TOKEN".to_owned(), "other".to_owned())].into();
    let again = workspace.xtask_with(&other, &build).exits_with(0);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
    let file = ["build", "--secret", "id=token,src=keys/token"];
    let from_file = workspace.xtask(&file).exits_with(0);
    assert!(!from_file.stderr.contains(" built\n"), "{}", from_file.stderr);
    let forced = workspace.xtask(&[&file[..], &["--no-cache"]].concat()).exits_with(0);
    assert!(forced.stderr.contains(" built\n"), "{}", forced.stderr);
    // Without it the step fails, and says what is missing.
    let without = workspace.xtask(&["build", "--no-cache"]).exits_with(1);
    assert!(without.error().contains("token"), "{}", without.error());
    assert!(!holds(&workspace.root().join("target"), secret));
    let image = workspace.own("tt-a");
    let history = Command::new("docker").args(["history", "--no-trunc", &image]).output().unwrap();
    assert!(!String::from_utf8_lossy(&history.stdout).contains(secret));
    assert!(!format!("{:?}", image_config(&image)).contains(secret));
}

#[test]
fn what_may_be_a_secret_is_neither_in_config_nor_in_the_command_that_reproduces() {
    let toml = r#"
        [image.tt-a]
        cache-from = ["type=s3,bucket=b,secret_access_key=hunter2"]
        contexts.x = "https://u:hunter2@git.example/x.git"
        args = { API_TOKEN = "hunter2", INDEX = "https://u:hunter2@index.example/simple" }
    "#;
    let workspace = workspace("FROM scratch\nARG API_TOKEN\nARG INDEX\nCOPY --from=x f /\n")
        .secret("hunter2")
        .file("xtask.toml", toml);
    for config in [&["config"][..], &["config", "--json"]] {
        let output = workspace.xtask(config).exits_with(0);
        assert!(output.stdout.contains("https://u:…@index.example/simple"), "{output:?}");
        assert!(output.stdout.contains("secret_access_key=…"), "{output:?}");
    }
    workspace.write("xtask.toml", "");
    workspace.write(
        "src/a/build/tt-a.dockerfile",
        "FROM scratch\nARG API_TOKEN\nARG INDEX\nCOPY gone /\n",
    );
    let options = [
        "--build-arg=API_TOKEN=hunter2",
        "--build-arg=INDEX=https://u:hunter2@h/",
        "--build-arg=HTTP_PROXY=http://u:hunter2@h",
        "--build-arg=SOURCE_DATE_EPOCH=1",
        "--set=args.API_TOKEN=hunter2",
        "--cache-from=type=registry,ref=localhost:1/x,token=hunter2",
    ];
    let failed = workspace.xtask(&[&["build", "-v"], &options[..]].concat()).exits_with(1);
    expect![[r#"
        to reproduce: cargo xtask build -s a --build-arg API_TOKEN --build-arg INDEX --build-arg HTTP_PROXY --build-arg SOURCE_DATE_EPOCH=1 --set 'args.API_TOKEN=…' --cache-from 'type=registry,ref=localhost:1/x,token=…'
    "#]]
    .assert_eq(&failed.error()[failed.error().find("to reproduce").unwrap()..]);
}

#[test]
fn a_secret_that_is_not_there_is_said_before_anything_is_sent() {
    let workspace = workspace(SECRET);
    for (secret, message) in [
        ("id=token,env=NO_SUCH", "secret 'token': the environment variable NO_SUCH is not set"),
        ("id=token", "secret 'token': there is neither a variable token nor such a file"),
    ] {
        let output = workspace.xtask(&["build", "--secret", secret]).exits_with(1);
        assert!(output.error().contains(message), "{}", output.error());
    }
    let wrong = workspace.xtask(&["build", "--secret", "token"]).exits_with(2);
    assert!(wrong.error().contains("expected id=NAME, and src=FILE or env=VARIABLE"));
    let classic = ["build", "--builder", "classic", "--secret", "id=token,src=Cargo.toml"];
    workspace.write("Cargo.toml", "");
    let output = workspace.xtask(&classic).exits_with(2);
    assert!(output.error().contains("needs BuildKit, and the engine at "), "{}", output.error());
}

#[test]
fn an_agent_answers_over_the_session() {
    let workspace = workspace(
        "FROM tt-box\nRUN --mount=type=ssh [ -S \"$SSH_AUTH_SOCK\" ] && echo ok > /seen\n",
    );
    let socket = workspace.root().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 64];
            while stream.read(&mut request).is_ok_and(|count| count > 0) {
                // There are no keys.
                let _ = stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]);
            }
        }
    });
    let variables = [("SSH_AUTH_SOCK".to_owned(), socket.display().to_string())].into();
    let _ = workspace.xtask_with(&variables, &["build", "--ssh", "default"]).exits_with(0);
    assert!(image_files(&workspace.own("tt-a")).contains_key("seen"));
    let own = format!("default={}", socket.display());
    let again = workspace.xtask(&["build", "--ssh", &own]).exits_with(0);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
    let key = workspace.write("key", "not a socket");
    let key = format!("default={}", key.display());
    let output = workspace.xtask(&["build", "--force", "--ssh", &key]).exits_with(1);
    assert!(output.error().contains("add the key to an agent with ssh-add"), "{}", output.error());
}

const STAGES: &str = "FROM tt-box AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\n\
                      FROM one AS two\nRUN cat /proc/sys/kernel/random/uuid > /two\n";

#[test]
fn one_stage_is_built_without_the_cache() {
    let workspace = workspace(STAGES);
    let built = |options: &[&str]| {
        let build = [&["build", "a", "--force"], options].concat();
        let output = workspace.xtask(&build).exits_with(0);
        let files = image_files(&workspace.own("tt-a"));
        (output, files["one"].clone(), files["two"].clone())
    };
    let (_, one, two) = built(&[]);
    let (output, other_one, other_two) = built(&["--no-cache-filter", "Two"]);
    assert!(one == other_one && two != other_two, "{output:?}");
    let progress = output.stderr.replace(['1', '2', '/'], "#");
    assert!(progress.contains("CACHED [one #"), "{progress}");
    workspace.write("xtask.toml", "no-cache-filter = [\"one\", \"of-another-image\"]\n");
    let (output, again_one, _) = built(&[]);
    assert!(one != again_one, "{output:?}");
    // Everything else is as in other builds: labels, and what is found up to date.
    let next = workspace.xtask(&["build", "a"]).exits_with(0);
    assert!(!next.stderr.contains(" built\n"), "{}", next.stderr);
    workspace.write("xtask.toml", "[image.tt-a]\nno-cache-filter = [\"tow\"]\n");
    let wrong = workspace.xtask(&["build", "-n"]).exits_with(2);
    assert!(wrong.error().contains("has no stage 'tow' (did you mean 'two'?)"), "{wrong:?}");
    workspace.write("xtask.toml", "");
    let wrong = workspace.xtask(&["build", "--no-cache-filter", "tow"]).exits_with(2);
    assert!(wrong.error().contains("a selected image has a stage 'tow'"), "{wrong:?}");
    let classic = ["build", "a", "--no-cache-filter", "two", "-f", "--builder", "classic"];
    let classic = workspace.xtask(&classic).exits_with(2);
    assert!(classic.error().contains("'no-cache-filter' needs BuildKit, and"), "{classic:?}");
}

/// What BuildKit's own API is asked for has the progress, failures and secrets of other builds.
#[test]
fn a_stage_without_cache_fails_like_any_other() {
    let workspace = workspace(
        "FROM tt-box AS one\nRUN --mount=type=secret,id=token grep -q bright /run/secrets/token \
         && cat /etc/hosts && echo out && false\n",
    );
    let variables = [("TOKEN".to_owned(), "bright-and-shiny".to_owned())].into();
    let build = ["build", "--no-cache-filter=one", "--secret=id=token,env=TOKEN"];
    let build = [&build[..], &["--add-host=one.example:10.0.0.1"]].concat();
    let failed = workspace.xtask_with(&variables, &build).exits_with(1);
    let error = failed.error();
    assert!(error.contains("tt-a.dockerfile:2: image 'tt-a' failed to build: "), "{error}");
    assert!(error.contains("> 2 | RUN --mount=type=secret"), "{error}");
    assert!(failed.stderr.contains("one.example\n"), "{}", failed.stderr);
    assert!(failed.stderr.contains("a | out\n"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("bright-and-shiny"), "{}", failed.stderr);
}

#[test]
fn an_image_can_carry_its_build_cache() {
    let workspace =
        workspace(STAGES).file("xtask.toml", "[image.tt-a]\ncache-to = [\"type=inline\"]\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let inspected = workspace.xtask(&["config", "tt-a"]).exits_with(0);
    assert!(inspected.stdout.contains("cache-to"), "{}", inspected.stdout);
    let wrong = workspace.xtask(&["build", "--cache-to", "type=local,src=x"]).exits_with(2);
    assert!(wrong.stderr.contains("needs dest=FOLDER"), "{}", wrong.stderr);
}

#[test]
fn githubs_cache_is_left_out_where_there_is_no_job() {
    let workspace = workspace(STAGES)
        .file("xtask.toml", "cache-from = [\"type=gha\"]\ncache-to = [\"type=gha,mode=max\"]\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    if !has_containerd_store() {
        let job = ["ACTIONS_RUNTIME_TOKEN", "ACTIONS_RESULTS_URL"];
        let job = job.map(|name| (name.to_owned(), "hunter2".to_owned())).into();
        let output = workspace.xtask_with(&job, &["build", "-f"]).exits_with(2);
        assert!(output.error().contains("'cache-to' needs the containerd"), "{}", output.error());
    }
}

#[test]
fn images_that_would_replace_each_others_cache_are_an_error() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nLABEL a=1\n")
        .image("b", "FROM scratch\nLABEL b=1\n")
        .file("xtask.toml", "\ncache-to = [\"type=registry,ref=r.example/cache,mode=max\"]\n");
    let error = |arguments: &[&str]| workspace.xtask(arguments).exits_with(2).error().to_owned();
    expect![[r#"
        error: xtask.toml:2: column 13: 'cache-to': images 'tt-a' and 'tt-b' both write type=registry,ref=r.example/cache,mode=max, and one would replace the other: write {image} where they differ
    "#]]
    .assert_eq(&error(&["graph"]));
    workspace.write("xtask.toml", "cache-to = [\"type=registry,ref=r.example/cache:{image}\"]\n");
    let _ = workspace.xtask(&["graph"]).exits_with(0);
    let option = error(&["build", "-n", "--cache-to", "type=registry,ref=r.example/c,mode=max"]);
    assert!(option.contains("images 'tt-a' and 'tt-b' both write"), "{option}");
    let differ = "[image.tt-a]\ncache-to = [\"type=registry,ref=r.example/cache,mode=max\"]\n\
                  [image.tt-b]\ncache-to = [\"r.example/cache\"]\n";
    workspace.write("xtask.toml", differ);
    let found = error(&["graph"]);
    assert!(found.contains("images 'tt-a' and 'tt-b' both write"), "{found}");
    workspace.write("xtask.toml", "");
    let one = "type=registry,ref=r.example/c:{image},mode=max";
    let config = workspace.xtask(&["config", "--set", &format!("cache-to={one}")]).exits_with(0);
    assert!(config.stdout.contains("r.example/c:tt-a,mode=max"), "{}", config.stdout);
}

#[test]
fn the_reference_of_a_cache_is_checked_before_anything_is_built() {
    let workspace = Workspace::new().file("image/Dockerfile", "FROM scratch\nLABEL a=1\n").file(
        "xtask.toml",
        "[image.\"team/tt-a\"]\ndockerfile = \"image/Dockerfile\"\n\
         cache-to = [\"type=registry,ref=r.example/cache:{image},mode=max\"]\n",
    );
    for arguments in [&["build", "-n"][..], &["build", "--set", "cache-from=r.example/c:{image}"]] {
        let output = workspace.xtask(arguments).exits_with(2);
        let expected = "has no valid 'ref': 'team/tt-a' is not a tag";
        assert!(output.error().contains(expected), "{}", output.error());
    }
    let other = "[image.\"team/tt-a\"]\ndockerfile = \"image/Dockerfile\"\n\
                 cache-to = [\"type=registry,ref=r.example/cache/{image},mode=max\"]\n";
    workspace.write("xtask.toml", other);
    workspace.xtask(&["graph"]).exits_with(0);
}

/// A cache of all stages, in a registry.
const MAX_CACHE: &str = "type=registry,ref=r.example/cache,mode=max";

#[test]
fn what_this_engine_cannot_do_is_an_error_with_its_version() {
    let workspace = workspace(STAGES).file("lib/f", "1");
    let version = docker(&["version", "--format", "{{.Server.Version}}"]);
    let version = String::from_utf8(version).unwrap().trim().to_owned();
    let in_containerd = [
        (["--attest", "type=sbom"], "'attest' needs the containerd image store, and the engine"),
        (["--cache-to", MAX_CACHE], "'cache-to' needs the containerd image store, and the"),
        (["--cache-from", "type=s3"], "'cache-from' needs the containerd image store, and the"),
        (["--platform", "linux/arm64,linux/amd64"], "'platforms' has several, and the engine at "),
    ];
    let since_23 =
        [(["--build-context", "tt-box=lib"], "'contexts' needs BuildKit 0.10, and the engine at ")];
    let in_containerd = in_containerd.iter().filter(|_| !has_containerd_store());
    let since_23 = since_23.iter().filter(|_| major_version() < 23);
    for (options, error) in in_containerd.chain(since_23) {
        let output = workspace.xtask(&[&["build", "-n", "a"][..], options].concat()).exits_with(2);
        let message = output.error();
        assert!(message.contains(error) && message.contains(&format!("({version})")), "{message}");
    }
    if has_containerd_store() {
        return;
    }
    // Others can be built.
    let workspace = workspace.image("b", "FROM scratch\nLABEL x=y\n");
    workspace.write("xtask.toml", "[image.tt-a]\nattest = [\"type=sbom\"]\n");
    let refused = workspace.xtask(&["build"]).exits_with(2);
    let place = "src/a/build/tt-a.dockerfile: image 'tt-a': 'attest' needs ";
    assert!(refused.error().contains(place), "{}", refused.error());
    let others = workspace.xtask(&["build", "-k"]).exits_with(1);
    assert_eq!(others.built(), ["b"], "{}", others.stderr);
}

#[test]
fn contexts_lead_to_images_and_folders_that_exist() {
    let workspace = workspace("FROM tt-base AS one\nCOPY --from=lib / /\n").file(
        "xtask.toml",
        "[image.tt-a.contexts]\ntt-base = \"target:tt-b\"\nlib = \"lib\"\none = \"x\"\n\
         out = \"a/../..\"\nother = \"docker-image://tt-box\"\n",
    );
    let wrong = workspace.xtask(&["build", "-n"]).exits_with(2);
    expect![[r#"
        error: xtask.toml:2: column 1: 'contexts.tt-base' is the unknown image 'tt-b' (did you mean 'tt-a'?)
        xtask.toml:3: column 1: 'contexts.lib' is lib/, which does not exist
        xtask.toml:4: column 1: 'contexts.one' is a stage of src/a/build/tt-a.dockerfile: a context can only be put in the place of an image. Give one of the two another name
        xtask.toml:5: column 1: 'contexts.out': 'a/../..' is no folder of the workspace: write its path from the root, which is '.'
        xtask.toml:6: column 1: 'contexts.other': src/a/build/tt-a.dockerfile uses no 'other'
    "#]]
    .assert_eq(wrong.error());
    workspace.write("xtask.toml", "");
    let unused = workspace.xtask(&["build", "-n", "--build-context", "libb=src"]).exits_with(2);
    expect![[r#"
        error: --build-context: no Dockerfile of a selected image uses 'libb' (did you mean 'lib'?)
    "#]]
    .assert_eq(unused.error());
}

#[test]
fn an_image_of_the_workspace_that_is_a_context_is_a_dependency() {
    let workspace = workspace("FROM other\nCOPY one /\n")
        .image("b", "FROM scratch\nCOPY build /b\n")
        .file("lib/f", "1")
        .file("xtask.toml", "[image.tt-a]\ncontexts.other = \"target:tt-b\"\n");
    let graph = workspace.xtask(&["graph", "a"]).exits_with(0);
    expect![[r#"
        a [tt-a]
        └── b [tt-b]  FROM
    "#]]
    .assert_eq(&graph.stdout);
    let folder = "contexts.other=lib";
    let graph = workspace.xtask(&["graph", "a", "--set", &format!("image.tt-a.{folder}")]);
    assert_eq!(graph.exits_with(0).stdout, "a [tt-a]\n");
}

/// As BuildKit has it.
#[test]
fn what_a_context_puts_in_the_place_of_an_image_is_not_replaced_in_turn() {
    let workspace = workspace("FROM other\nCOPY one /\n")
        .image("b", "FROM scratch\nCOPY build /b\n")
        .image("c", "FROM tt-b\n")
        .file(
            "xtask.toml",
            "contexts.tt-b = \"docker-image://tt-box\"\n\
             [image.tt-a]\ncontexts.other = \"target:tt-b\"\n",
        );
    let graph = workspace.xtask(&["graph", "a", "c"]).exits_with(0);
    expect![[r#"
        a [tt-a]
        └── b [tt-b]  FROM
        c [tt-c]
    "#]]
    .assert_eq(&graph.stdout);
}

#[test]
fn the_folder_of_an_option_can_be_named_from_anywhere() {
    let workspace = workspace("FROM scratch\nCOPY --from=lib / /\n").file("lib/f", "1");
    let link = workspace.root().join("link");
    symlink(workspace.root(), &link).unwrap();
    let link = link.to_str().unwrap();
    // An engine that is too old says so once the folder is found.
    let is_found = |output: &Output| output.code == 0 || output.stderr.contains("needs BuildKit");
    let option = |folder: &str| format!("lib={folder}");
    for folder in ["../../lib", "../../src/../lib/", &format!("{link}/lib")] {
        let output =
            workspace.xtask_in("src/a", &["build", "-n", "--build-context", &option(folder)]);
        assert!(is_found(&output), "{folder}: {}", output.stderr);
    }
    let through = ["--root", link, "build", "-n", "--build-context", "lib=lib"];
    let output = workspace.xtask(&through);
    assert!(is_found(&output), "{}", output.stderr);
    for outside in ["..", "../lib"] {
        let output = workspace.xtask(&["build", "-n", "--build-context", &option(outside)]);
        let error = output.exits_with(2).error().to_owned();
        assert!(error.contains("is no folder in the workspace at "), "{outside}: {error}");
    }
}

#[test]
fn the_file_says_the_same_as_the_options() {
    let workspace = workspace(SECRET).file(
        "xtask.toml",
        "labels.x = \"y\"\n[image.tt-a]\nsecrets = [{ id = \"token\", env = \"TOKEN\" }]\n",
    );
    let variables = [("TOKEN".to_owned(), "bright-and-shiny".to_owned())].into();
    let _ = workspace.xtask_with(&variables, &["build"]).exits_with(0);
    assert_eq!(image_config(&workspace.own("tt-a"))["Labels"]["x"], "y");
    assert!(image_files(&workspace.own("tt-a")).contains_key("seen"));
}

fn git(workspace: &Workspace, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(arguments);
    let output = git.current_dir(workspace.root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn labels_say_what_was_checked_out_and_make_nothing_stale() {
    let workspace = workspace("FROM scratch\nCOPY one /\n")
        .file(
            "xtask.toml",
            "[labels]\n\"org.opencontainers.image.revision\" = \"{commit}\"\n\
             \"org.opencontainers.image.created\" = \"{created}\"\nbranch = \"on {branch}\"\n",
        )
        .git();
    git(&workspace, &["commit", "-qm", "one"]);
    git(&workspace, &["checkout", "-qb", "topic"]);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let labels = image_config(&workspace.own("tt-a"))["Labels"].clone();
    let commit = git(&workspace, &["rev-parse", "HEAD"]);
    assert_eq!(labels["org.opencontainers.image.revision"], commit);
    assert_eq!(labels["branch"], "on topic");
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:"]).output().unwrap();
    let date = String::from_utf8(date.stdout).unwrap();
    let created = labels["org.opencontainers.image.created"].as_str().unwrap();
    assert!(created[..11] == date[..11] && created.len() == 20, "{created} {date}");
    git(&workspace, &["commit", "-qm", "two", "--allow-empty"]);
    let again = workspace.xtask(&["build"]).exits_with(0);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
}

#[test]
fn two_branches_have_images_of_their_own_names() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.\"tt-{branch}-{app}\"]\ndockerfile = \"{app}/Dockerfile\"\n\
             [image.\"tt-*-web\"]\nargs.BASE = \"tt-{branch}-base\"\n",
        )
        .file("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .file("web/Dockerfile", "ARG BASE\nFROM $BASE\nCOPY Dockerfile /web\n")
        .git();
    git(&workspace, &["commit", "-qm", "one"]);
    for branch in ["one", "feature/Two"] {
        git(&workspace, &["checkout", "-qb", branch]);
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), ["base", "web"], "{}", output.stderr);
        let name = branch.to_lowercase();
        assert!(image_files(&workspace.own(&format!("tt-{name}-web"))).contains_key("web"));
    }
    let again = workspace.xtask(&["build"]).exits_with(0);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
}

#[test]
fn an_arg_of_a_base_s_trigger_counts() {
    let workspace = workspace("FROM tt-box\nONBUILD ARG X=none\nONBUILD RUN echo $X > /x\n")
        .image("b", "FROM tt-a\n");
    let build = |value: &str| {
        let output = workspace.xtask(&["build", "--build-arg", value]).exits_with(0);
        let built = output.stderr.contains("image tt-b built");
        (built, image_files(&workspace.own("tt-b"))["x"].clone())
    };
    assert!(build("X=1").1.ends_with("1\n"));
    let (is_built, x) = build("X=2");
    assert!(is_built && x.ends_with("2\n"), "{x}");
    assert!(!build("X=2").0);
}

/// Whether any file in a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}
