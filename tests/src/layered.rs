//! Images that are FROM each other in levels, and a file for Bake that says so once more.

use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::Workspace;

const LEVELS: usize = 5;
const WIDTH: usize = 8;

/// How many images there are.
pub const IMAGES: usize = LEVELS * WIDTH;

/// What an image is called.
pub fn name(image: usize) -> String {
    format!("c{image:02}")
}

/// Writes a component for each image, which is FROM one of the level below or from `bottom`, with
/// these further instructions, and the file for Bake. Bake's images have names of their own.
pub fn write(workspace: &Workspace, bottom: &str, instructions: impl Fn(&str) -> String) {
    let own = |name: &str| workspace.own(&format!("tt-{name}"));
    let mut targets = Map::new();
    for image in 0..IMAGES {
        let name = name(image);
        let base = image.checked_sub(WIDTH).map(self::name);
        let from = base.as_deref().map_or_else(|| workspace.own(bottom), own);
        let dockerfile = format!("build/{}.dockerfile", own(&name));
        workspace.write(
            &format!("src/{name}/{dockerfile}"),
            &format!("FROM {from}\n{}", instructions(&name)),
        );
        let links = base.iter().map(|base| (own(base), Value::from(format!("target:{base}"))));
        let target = json!({
            "context": format!("src/{name}"),
            "dockerfile": dockerfile,
            "contexts": links.collect::<Map<_, _>>(),
            "tags": [format!("{}-bake", own(&name))],
        });
        targets.insert(name, target);
    }
    let group = json!({ "default": { "targets": targets.keys().collect::<Vec<_>>() } });
    workspace.write("docker-bake.json", &json!({ "group": group, "target": targets }).to_string());
}

/// Builds all targets with Bake.
///
/// # Panics
///
/// If there is no docker CLI with buildx, or it fails.
pub fn bake(workspace: &Workspace, options: &[String]) {
    let mut bake = Command::new("docker");
    bake.args(["buildx", "bake", "--progress", "quiet", "--file", "docker-bake.json"]);
    let status = bake.args(options).current_dir(workspace.root()).stdout(Stdio::null()).status();
    assert!(status.expect("docker runs").success(), "a docker CLI with buildx");
}
