//! Build arguments that builders predefine before the first `FROM`: those of the platform,
//! and the name of the target stage.

use std::collections::BTreeMap;

/// The names of the platform arguments, without their prefix `TARGET` or `BUILD`.
const PLATFORM: [&str; 4] = ["PLATFORM", "OS", "ARCH", "VARIANT"];

/// The proxy arguments, which are predefined in lower case and in upper case.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// The variable for the target stage, and what it is if no stage was named.
const TARGET_STAGE: (&str, &str) = ("TARGETSTAGE", "default");

/// Whether builders predefine a variable before the first `FROM`, without an `ARG`.
pub(crate) fn is_platform_arg(name: &str) -> bool {
    let platform = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"));
    platform.is_some_and(|rest| PLATFORM.contains(&rest)) || name == TARGET_STAGE.0
}

/// Whether a build arg configures the builder itself, without an `ARG`.
pub(crate) fn configures_builder(name: &str) -> bool {
    name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH" || is_platform_arg(name)
}

/// Whether a build arg has a meaning without an `ARG`: those that configure the builder, and
/// the proxies of every `RUN`.
pub fn is_predefined(name: &str) -> bool {
    configures_builder(name) || is_proxy(name)
}

/// Whether a build arg is a proxy of every `RUN`.
pub(crate) fn is_proxy(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_one_case = name == lower || name == name.to_ascii_uppercase();
    is_one_case && PROXIES.contains(&lower.as_str())
}

/// The predefined variables, for the platform that this program runs on or another `platform`,
/// and the stage that is built. Build args override them.
pub(crate) fn platform_variables(
    build_args: &BTreeMap<String, String>,
    target: Option<&str>,
    platform: BTreeMap<String, String>,
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
    variables.insert(stage.to_owned(), target.unwrap_or(last).to_owned());
    variables.extend(platform);
    let given = build_args.iter().filter(|(name, _)| is_platform_arg(name));
    variables.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    variables
}
