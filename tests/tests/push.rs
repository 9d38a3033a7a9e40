//! Pushing to a real registry.

use tests::engine::is_podman;
use tests::registry::Registry;
use tests::{Output, Workspace};

const BASE: &str = "FROM scratch\nCOPY build /build\n";

fn configured(address: &str, rest: &str) -> Workspace {
    let config = format!(
        "machine-list: [1]\ncluster:\n  docker-registry:\n    domain: {address}\n    \
         namespace: some/where\n    tag: 1.10\n{rest}"
    );
    Workspace::new()
        .replace(address, "[REGISTRY]")
        .file("config/services-configuration.yaml", &config)
        .image("web", BASE)
        .image("db", "FROM tt-web\nLABEL x=1\n")
}

#[test]
fn images_are_tagged_and_pushed_and_their_digests_told() {
    let registry = Registry::start();
    let workspace = configured(registry.address(), "    secret-name: s\n");
    workspace.xtask(&["build", "-c", "config"]).exits_with(0);
    let output = workspace.xtask(&["push", "-c", "config"]).exits_with(0);
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    lines.sort_unstable();
    let line = |image: &str| format!("[REGISTRY]/some/where/tt-{image}:1.10@[DIGEST]");
    assert_eq!(lines, [line("db"), line("web")]);
    for image in ["tt-db", "tt-web"] {
        let name = workspace.own(&format!("some/where/{image}"));
        assert!(registry.digest(&name, "1.10").is_some(), "{name}");
    }
}

#[test]
fn chosen_images_get_a_chosen_tag() {
    let registry = Registry::start();
    let config = registry.address().to_owned();
    let workspace = configured(&config, "").env("PAI_CONFIG_DIR", "config");
    workspace.xtask(&["build"]).exits_with(0);
    workspace.xtask(&["push", "-i", "tt-db", "--tag", "v2"]).exits_with(0);
    let name = |image: &str| workspace.own(&format!("some/where/{image}"));
    assert!(registry.digest(&name("tt-db"), "v2").is_some());
    assert!(registry.digest(&name("tt-web"), "v2").is_none());
}

#[test]
fn two_images_cannot_be_pushed_to_one_reference() {
    let registry = Registry::start();
    let config = format!(
        "registry = \"{}/x\"\n[image.tt-a]\ntags = [\"{{registry}}/app:{{tag}}\"]\n\
         [image.tt-b]\ntags = [\"{{registry}}/app:v1\"]\n",
        registry.address()
    );
    let workspace = Workspace::new()
        .replace(registry.address(), "[REGISTRY]")
        .image("a", "FROM scratch\nCOPY build /\n")
        .image("b", "FROM scratch\nCOPY build /\n")
        .file("xtask.toml", &config);
    workspace.xtask(&["build"]).exits_with(0);
    let error = workspace.xtask(&["push", "--tag", "v1", "--lock", "lock.json"]).exits_with(2);
    let expected = "images 'tt-a' and 'tt-b' cannot both be [REGISTRY]/x/app:v1";
    assert!(error.error().contains(expected), "{error:?}");
    assert!(!workspace.root().join("lock.json").exists());
    workspace.xtask(&["push", "--tag", "v2"]).exits_with(0);
    workspace.xtask(&["push", "--tag", "v1", "-i", &workspace.own("tt-a")]).exits_with(0);
}

#[test]
fn what_is_rebuilt_while_it_is_watched_is_pushed() {
    let registry = Registry::start();
    let workspace = configured(registry.address(), "").image("alone", BASE);
    let watch = ["watch", "-c", "config", "--push"];
    let mut running = workspace.start(&watch);
    running.wait_for("3 built");
    running.wait_for("watching: ");
    running.wait_for("watching: ");
    let digest = |image: &str| {
        registry
            .digest(&workspace.own(&format!("some/where/{image}")), "1.10")
            .expect("it is there")
    };
    let before = ["tt-web", "tt-db", "tt-alone"].map(digest);
    workspace.write("src/web/build/new", "x");
    running.wait_for("2 built");
    running.wait_for("watching: ");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    let pushed = output.stderr.matches("pushing: ").count();
    assert_eq!(pushed, 5, "{}", output.stderr);
    let after = ["tt-web", "tt-db", "tt-alone"].map(digest);
    assert!(before[0] != after[0] && before[1] != after[1] && before[2] == after[2]);
}

/// Its base64 has characters that the two alphabets write differently.
const PASSWORD: &str = "0a?b>c~d??>>~~";

#[test]
fn a_password_opens_the_registry_and_is_never_shown() {
    let registry = Registry::start_with_password("somebody", PASSWORD);
    let login = format!("    username: somebody\n    password: {PASSWORD}\n");
    let workspace = configured(registry.address(), &login).secret(PASSWORD);
    workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["push", "-c", "config"]).exits_with(0);
    assert_eq!(output.stdout.lines().count(), 2);
}

#[test]
fn a_password_of_digits_keeps_its_zero_in_the_older_shape() {
    let registry = Registry::start_with_password("somebody", "012345");
    let config = format!(
        "cluster:\n  docker-registry-info:\n    docker-registry-domain: {}\n    docker-namespace: ns\n    \
         docker-username: somebody\n    docker-password: 012345\n    docker-tag: 012\n",
        registry.address()
    );
    let workspace = Workspace::new()
        .secret("012345")
        .replace(registry.address(), "[REGISTRY]")
        .file("config/services-configuration.yaml", &config)
        .image("web", BASE);
    workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["push", "-c", "config"]).exits_with(0);
    assert_eq!(output.stdout, "[REGISTRY]/ns/tt-web:012@[DIGEST]\n");
}

/// What the engine said of a push that failed at once, in whatever words.
fn failure(output: &Output) -> &str {
    let lines: Vec<&str> = output.stderr.lines().collect();
    let [pushing, failed, error] = lines[..] else { panic!("{}", output.stderr) };
    assert_eq!(pushing, "pushing: [REGISTRY]/some/where/tt-web:1.10");
    assert_eq!(error, "error: 1 of 1 images were not pushed: see the errors above");
    failed.strip_prefix("failed: [REGISTRY]/some/where/tt-web:1.10: ").expect("the reference")
}

#[test]
fn a_wrong_password_is_not_tried_again() {
    let registry = Registry::start_with_password("somebody", PASSWORD);
    let login = "    username: somebody\n    password: falsch123\n";
    let workspace = configured(registry.address(), login).secret("falsch123");
    workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["push", "-c", "config", "-i", "tt-web"]).exits_with(1);
    let said = if is_podman() { "authentication required" } else { "unauthorized" };
    assert!(failure(&output).to_lowercase().contains(said), "{}", output.stderr);
}

#[test]
fn a_missing_login_is_said() {
    let registry = Registry::start_with_password("somebody", PASSWORD);
    let workspace = configured(registry.address(), "");
    workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["push", "-c", "config", "-i", "tt-web"]).exits_with(1);
    let said = if is_podman() { "authentication required" } else { "no basic auth credentials" };
    assert!(failure(&output).ends_with(said), "{}", output.stderr);
}

#[test]
fn a_registry_that_is_down_is_tried_again_and_given_up() {
    let mut registry = Registry::start();
    let workspace = configured(registry.address(), "");
    workspace.xtask(&["build"]).exits_with(0);
    registry.stop();
    let push = ["push", "-c", "config", "-i", "tt-web", "--retry-for", "1"];
    let output = workspace.xtask(&push).exits_with(1);
    let refused = "dial tcp [REGISTRY]: connect: connection refused";
    let (retry, rest) = output.stderr.split_once("; trying again in [TIME]\n").expect("a retry");
    let retried = retry.lines().next_back().expect("a line");
    assert!(retried.starts_with("retry: [REGISTRY]/some/where/tt-web:1.10: "), "{retried}");
    assert!(retried.ends_with(refused), "{retried}");
    let (failed, error) = rest.split_once('\n').expect("a line");
    assert!(failed.starts_with("failed: [REGISTRY]/some/where/tt-web:1.10: "), "{failed}");
    assert!(failed.ends_with(refused), "{failed}");
    assert_eq!(error, "error: 1 of 1 images were not pushed: see the errors above\n");
}

#[test]
fn a_registry_that_restarts_is_waited_for() {
    let mut registry = Registry::start();
    let workspace = configured(registry.address(), "");
    workspace.xtask(&["build"]).exits_with(0);
    registry.stop();
    let mut running = workspace.start(&["push", "-c", "config", "-i", "tt-web"]);
    running.wait_for("trying again in");
    registry.restart();
    let output = running.finish().exits_with(0);
    assert_eq!(output.stdout, "[REGISTRY]/some/where/tt-web:1.10@[DIGEST]\n");
}

#[test]
fn a_registry_that_answers_500_twice_is_tried_a_third_time() {
    let registry = Registry::start();
    let flaky = registry.flaky(2);
    let workspace = configured(&flaky.address, "");
    workspace.xtask(&["build"]).exits_with(0);
    workspace.xtask(&["push", "-c", "config", "-i", "tt-web"]).exits_with(0);
    assert_eq!(flaky.left(), 0);
    assert!(registry.digest(&workspace.own("some/where/tt-web"), "1.10").is_some());
}
