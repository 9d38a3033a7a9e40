//! Build arguments that builders predefine before the first `FROM`: those of the platform,
//! and the name of the target stage.

use std::collections::BTreeMap;

/// The names of the platform arguments, without their prefix `TARGET` or `BUILD`.
const PLATFORM: [&str; 4] = ["PLATFORM", "OS", "ARCH", "VARIANT"];

/// The target stage. This tool always builds the last one, which builders call `default`.
const TARGET_STAGE: (&str, &str) = ("TARGETSTAGE", "default");

/// Whether builders predefine a variable before the first `FROM`, without an `ARG`.
pub(crate) fn is_platform_arg(name: &str) -> bool {
    let platform = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"));
    platform.is_some_and(|rest| PLATFORM.contains(&rest)) || name == TARGET_STAGE.0
}

/// The predefined variables, for the platform that this program runs on. Build args
/// override them.
pub(crate) fn platform_variables(
    build_args: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    let values = [format!("linux/{arch}"), "linux".to_owned(), arch.to_owned(), String::new()];
    let both = PLATFORM.iter().zip(values).flat_map(|(name, value)| {
        ["TARGET", "BUILD"].map(|prefix| (format!("{prefix}{name}"), value.clone()))
    });
    let (stage, last) = TARGET_STAGE;
    let mut variables: BTreeMap<String, String> = both.collect();
    variables.insert(stage.to_owned(), last.to_owned());
    let given = build_args.iter().filter(|(name, _)| is_platform_arg(name));
    variables.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    variables
}
