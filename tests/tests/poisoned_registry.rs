//! A registry that has something else than it says, or does not answer: it is said, and images are
//! built here.

use std::fs;

use serde_json::{Value, json};
use tests::engine::{docker, has_containerd_store, has_image, image_files, remove_image};
use tests::proxy::{Proxy, Rule};
use tests::registry::Registry;
use tests::{Output, Workspace};

/// A registry with what one machine shared, and another machine.
struct Setting {
    registry: Registry,
    proxy: Proxy,
    workspace: Workspace,
}

fn setting() -> Setting {
    built_with("buildkit")
}

fn built_with(builder: &str) -> Setting {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.address());
    let workspace = Workspace::new()
        .replace(proxy.address(), "[REGISTRY]")
        .file("xtask.toml", &format!("share = \"{}/team\"\n", proxy.address()))
        .with_box()
        .image("base", "FROM tt-box\nCOPY build/own /own\n")
        .file("src/base/build/own", "base")
        .image("web", "FROM tt-base\nCOPY build/own /web\nRUN cat /web > /copy\n")
        .file("src/web/build/own", "web");
    let build = ["--builder", builder, "build", "--from-registry=off", "--share"];
    workspace.xtask(&build).exits_with(0);
    forget(&workspace);
    Setting { registry, proxy, workspace }
}

fn forget(workspace: &Workspace) {
    for image in ["tt-web", "tt-base"].map(|image| workspace.own(image)) {
        if has_image(&image) {
            remove_image(&image);
        }
    }
    drop(fs::remove_dir_all(workspace.root().join("target")));
}

impl Setting {
    /// The repository of an image.
    fn repository(&self, image: &str) -> String {
        self.workspace.own(&format!("team/tt-{image}"))
    }

    /// The tag of an image's fingerprint.
    fn tag(&self, image: &str) -> String {
        let tags = self.registry.tags(&self.repository(image));
        let tag = tags.into_iter().find(|tag| tag.len() == "fp-".len() + 64);
        tag.expect("a tag of a fingerprint")
    }

    /// The manifest of an image for the platform of this machine, as JSON.
    fn manifest(&self, image: &str) -> Value {
        let repository = self.repository(image);
        let index = self.registry.index(&repository, &self.tag(image));
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
        serde_json::from_str(&self.registry.manifest(&repository, digest)).expect("JSON")
    }

    /// Lets an image's tag lead to what another tag of it leads to.
    fn redirect(&self, image: &str, to: &str) {
        let (repository, tag) = (self.repository(image), self.tag(image));
        let mut index = self.registry.index(&repository, &tag);
        let manifest = self.registry.manifest(&repository, to);
        index["manifests"][0]["digest"] =
            json!(self.registry.digest(&repository, to).expect("a digest"));
        index["manifests"][0]["size"] = json!(manifest.len());
        self.registry.put_manifest(&repository, &tag, &index);
    }

    fn push(&self, name: &str, image: &str, tag: &str) {
        let reference = format!("{}/{}:{tag}", self.registry.address(), self.repository(image));
        docker(&["tag", name, &reference]);
        docker(&["push", &reference]);
        docker(&["rmi", &reference]);
    }

    /// Builds all: what happens, with the lines that warn.
    #[track_caller]
    fn builds(&self, built: &[&str]) -> Vec<String> {
        let output = self.workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built_by_name(), built, "{}", output.stderr);
        let files = image_files(&self.workspace.own("tt-web"));
        assert!(files["web"].ends_with(" web") && files["own"].ends_with(" base"), "{files:?}");
        assert!(!files.contains_key("evil"), "{files:?}");
        warnings(&output)
    }
}

fn warnings(output: &Output) -> Vec<String> {
    let lines = output.stderr.lines().filter(|line| line.starts_with("warning: "));
    lines.map(str::to_owned).collect()
}

/// The only warning, which has a text in it.
#[track_caller]
fn only(warnings: &[String], text: &str) {
    assert!(matches!(warnings, [one] if one.contains(text)), "{warnings:#?}");
}

/// An image that is derived from `web`, with all its labels.
fn derived(setting: &Setting) -> String {
    setting.workspace.xtask(&["build", "--from-registry=off"]).exits_with(0);
    let (web, name) = (setting.workspace.own("tt-web"), setting.workspace.own("tt-derived"));
    let container = docker(&["create", &web, "true"]);
    let container = String::from_utf8_lossy(&container).trim().to_owned();
    let evil = setting.workspace.write("evil", "evil");
    docker(&["cp", &evil.display().to_string(), &format!("{container}:/evil")]);
    docker(&["commit", &container, &name]);
    docker(&["rm", &container]);
    name
}

#[test]
fn nothing_is_wrong_with_an_honest_registry() {
    let setting = setting();
    assert_eq!(setting.builds(&[]), [""; 0]);
}

#[test]
fn an_image_that_was_pushed_by_hand_is_refused() {
    let setting = setting();
    let derived = derived(&setting);
    setting.push(&derived, "web", &setting.tag("web"));
    docker(&["rmi", &derived]);
    forget(&setting.workspace);
    only(&setting.builds(&["web"]), "the tag of its fingerprint was not written by --share");
}

#[test]
fn an_image_that_is_derived_from_ours_is_refused() {
    let setting = setting();
    let derived = derived(&setting);
    setting.push(&derived, "web", "derived");
    docker(&["rmi", &derived]);
    forget(&setting.workspace);
    setting.redirect("web", "derived");
    only(&setting.builds(&["web"]), "leads to an image that its Dockerfile does not make");
}

#[test]
fn an_image_with_another_fingerprint_is_refused() {
    let setting = setting();
    setting.workspace.write("src/web/build/own", "other");
    setting.workspace.xtask(&["build", "--from-registry=off"]).exits_with(0);
    setting.push(&setting.workspace.own("tt-web"), "web", "other");
    setting.workspace.write("src/web/build/own", "web");
    forget(&setting.workspace);
    setting.redirect("web", "other");
    only(&setting.builds(&["web"]), "leads to an image with another fingerprint");
}

#[test]
fn an_image_for_another_platform_is_refused() {
    let setting = setting();
    let arm = Workspace::new()
        .file("xtask.toml", "platforms = [\"linux/arm64\"]\n")
        .image("arm", "FROM scratch\nCOPY build /build\n");
    arm.xtask(&["build"]).exits_with(0);
    setting.push(&arm.own("tt-arm"), "web", "arm");
    setting.redirect("web", "arm");
    only(&setting.builds(&["web"]), "leads to an image for another platform");
}

#[test]
fn a_layer_that_does_not_match_its_digest_is_refused() {
    // BuildKit's cache would have the layer.
    let setting = built_with("classic");
    let manifest = setting.manifest("web");
    let layers = manifest["layers"].as_array().expect("layers");
    let last = layers.last().expect("a layer");
    let digest = last["digest"].as_str().expect("a digest");
    let size = usize::try_from(last["size"].as_u64().expect("a size")).expect("a small layer");
    let request = format!("GET /v2/{}/blobs/{digest}", setting.repository("web"));
    setting.proxy.set([Rule::new(&request, "200 OK", &vec![0; size])]);
    let is_asked_for = || setting.proxy.requests().iter().any(|it| it.contains(digest));
    let output = setting.workspace.xtask(&["build"]).exits_with(0);
    if has_containerd_store() && !is_asked_for() {
        // It keeps what nobody needs for a while, the right layer among it.
        assert_eq!(output.built_by_name(), [] as [&str; 0], "{}", output.stderr);
    } else {
        assert_eq!(output.built_by_name(), ["web"], "{}", output.stderr);
        only(&warnings(&output), "cannot be pulled: ");
    }
    let files = image_files(&setting.workspace.own("tt-web"));
    assert!(files["web"].ends_with(" web") && files["copy"].ends_with(" web"), "{files:?}");
}

#[test]
fn a_configuration_that_does_not_match_its_digest_is_refused() {
    let setting = setting();
    let manifest = setting.manifest("web");
    let digest = manifest["config"]["digest"].as_str().expect("a digest");
    setting.proxy.set([Rule::new(digest, "200 OK", b"{}")]);
    only(&setting.builds(&["web"]), "it has other bytes under [DIGEST]");
}

#[test]
fn a_tag_that_moves_after_the_question_moves_nothing() {
    let setting = setting();
    let tag = setting.tag("web");
    setting.proxy.set([Rule::new(&format!("/manifests/{tag}"), "404 Not Found", b"").after(1)]);
    assert_eq!(setting.builds(&[]), [""; 0]);
    let asked = setting.proxy.requests().iter().filter(|it| it.contains(&tag)).count();
    assert_eq!(asked, 1, "what is pulled is known by its digest");
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    let setting = setting();
    let busy = "429 Too Many Requests\r\nRetry-After: 1";
    setting.proxy.set([Rule::new("/manifests/fp-", busy, b"").times(2)]);
    assert_eq!(setting.builds(&[]), [""; 0]);
    forget(&setting.workspace);
    setting.proxy.set([Rule::new("/manifests/fp-", "500 Internal Server Error", b"").times(2)]);
    assert_eq!(setting.builds(&[]), [""; 0]);
}

#[test]
fn a_registry_that_fails_every_few_requests_leaves_nothing_wrong() {
    let setting = setting();
    for nth in [2, 3, 5, 7] {
        forget(&setting.workspace);
        let fails = Rule::new("/v2/", "503 Service Unavailable", b"").every(nth);
        setting.proxy.set([fails]);
        let share = ["build", "--from-registry=off", "--share"];
        let shared = setting.workspace.xtask(&share);
        assert!(shared.code == 0 || shared.stderr.contains("503"), "{nth}: {}", shared.stderr);
        forget(&setting.workspace);
        // What is not pulled is built.
        let _ = setting.workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(setting.builds(&[]), [""; 0], "{nth}");
    }
    forget(&setting.workspace);
    setting.proxy.set([]);
    assert_eq!(setting.builds(&[]), [""; 0]);
}

#[test]
fn a_registry_that_says_where_a_blob_is_on_itself_is_followed() {
    let setting = setting();
    let redirects = || {
        ["web", "base"].map(|image| {
            let manifest = setting.manifest(image);
            let digest = manifest["config"]["digest"].as_str().expect("a digest");
            let path = format!("/v2/{}/blobs/{digest}", setting.repository(image));
            let head = format!("307 Temporary Redirect\r\nLocation: {path}?again=yes");
            Rule::new(&format!("GET {path} "), &head, b"")
        })
    };
    setting.proxy.set(redirects());
    assert_eq!(setting.builds(&[]), [""; 0]);
    assert!(setting.proxy.requests().iter().any(|it| it.contains("?again=yes")));
}

#[test]
fn a_registry_with_a_password_is_followed_with_it() {
    let locked = Registry::start_with_password("somebody", "secret-word-1");
    let proxy = Proxy::start(locked.address());
    let auth = docker_auth("somebody", "secret-word-1");
    let config = json!({ "auths": { proxy.address(): { "auth": auth } } });
    let setting = setting();
    let workspace = setting.workspace.copy();
    workspace.write(".docker/config.json", &config.to_string());
    let folder = workspace.root().join(".docker").display().to_string();
    let workspace = workspace.env("DOCKER_CONFIG", &folder);
    workspace.write("xtask.toml", &format!("share = \"{}/team\"\n", proxy.address()));
    workspace.xtask(&["build", "--share"]).exits_with(0);
    forget(&workspace);
    proxy.set([]);
    workspace.xtask(&["build"]).exits_with(0);
    let requests = proxy.requests();
    let blobs = requests.iter().filter_map(|request| request.strip_prefix("GET "));
    let blobs = blobs.filter(|path| path.contains("/blobs/")).filter_map(|it| it.split_once(' '));
    forget(&workspace);
    proxy.set(blobs.map(|(path, _)| {
        let head = format!("302 Found\r\nLocation: {path}?again=yes");
        Rule::new(&format!("GET {path} "), &head, b"")
    }));
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.built().is_empty() && warnings(&output).is_empty(), "{}", output.stderr);
    assert!(proxy.requests().iter().any(|it| it.contains("?again=yes")));
}

#[test]
fn a_registry_that_does_not_answer_is_waited_for_once() {
    let setting = setting();
    for (rule, why) in [
        (Rule::new("GET", "429 Too Many Requests\r\nRetry-After: 1", b""), "it answers 429"),
        (Rule::new("GET", "429 Too Many Requests\r\nRetry-After: 60", b""), "it answers 429"),
        (Rule::new("GET", "503 Service Unavailable", b""), "it answers 503"),
        (Rule::silence("GET"), "no answer within 3 seconds"),
    ] {
        forget(&setting.workspace);
        setting.proxy.set([rule]);
        let warnings = setting.builds(&["base", "web"]);
        only(&warnings, &format!("[REGISTRY]/team is not asked for images: {why}"));
    }
}

#[test]
fn a_registry_that_is_away_is_said_once() {
    let mut setting = setting();
    setting.registry.stop();
    let gone = Registry::start();
    let address = gone.address().to_owned();
    drop(gone);
    setting.workspace.write("xtask.toml", &format!("share = \"{address}/team\"\n"));
    only(&setting.builds(&["base", "web"]), "/team is not asked for images: Connection refused");
}

#[test]
fn a_login_that_is_refused_is_said_once() {
    refuses(&Registry::start_with_password("somebody", "secret-word-1"));
}

#[test]
fn a_login_that_gives_tokens_and_is_refused_is_said_once() {
    refuses(&Registry::start_with_tokens("somebody", "secret-word-1"));
}

/// Shares and takes with the right password, and takes nothing with a wrong one.
fn refuses(locked: &Registry) {
    let setting = setting();
    let config = |password: &str| {
        let auth = docker_auth("somebody", password);
        let config = json!({ "auths": { locked.address(): { "auth": auth } } });
        setting.workspace.write(".docker/config.json", &config.to_string());
    };
    let folder = setting.workspace.root().join(".docker").display().to_string();
    let workspace = setting.workspace.copy().env("DOCKER_CONFIG", &folder);
    workspace.write("xtask.toml", &format!("share = \"{}/team\"\n", locked.address()));
    config("secret-word-1");
    workspace.xtask(&["build", "--share"]).exits_with(0);
    forget(&workspace);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.built().is_empty(), "{}", output.stderr);
    forget(&workspace);
    config("expired");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built_by_name(), ["base", "web"]);
    only(&warnings(&output), "the login is refused (401 Unauthorized): run 'docker login ");
}

fn docker_auth(user: &str, password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}
