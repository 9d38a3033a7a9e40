//! The build caches of an image, as BuildKit takes them.

use std::collections::BTreeMap;
use std::env;

use xtask_core::workspace::config::exports::{CacheEntry, GITHUB};
use xtask_core::workspace::config::settings::Sourced;

/// What GitHub's cache needs and a job has in its environment: the rules are those of `docker buildx`.
#[derive(Clone, Default)]
pub(crate) struct GithubJob(BTreeMap<&'static str, String>);

impl GithubJob {
    /// The job that this program is a part of, if it is one.
    pub(crate) fn of_environment() -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let is_second_version =
            set("ACTIONS_CACHE_SERVICE_V2").is_some_and(|it| matches!(&*it, "1" | "true" | "True"));
        let results = set("ACTIONS_RESULTS_URL");
        let attributes = [
            ("token", set("ACTIONS_RUNTIME_TOKEN")),
            ("url_v2", results.clone().filter(|_| is_second_version)),
            ("url", set("ACTIONS_CACHE_URL").or(results)),
        ];
        Self(attributes.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

impl std::fmt::Debug for GithubJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GithubJob(hidden)")
    }
}

/// The caches as they are written. They were checked when the workspace was read.
pub(crate) fn parsed(given: &[Sourced<String>]) -> impl Iterator<Item = CacheEntry> {
    given.iter().filter_map(|cache| CacheEntry::parse(&cache.value).ok())
}

/// The caches that can be used for an image. GitHub's is left out where there is no job, so that
/// the same configuration serves everywhere.
pub(crate) fn caches(
    given: &[Sourced<String>],
    image: &str,
    job: &GithubJob,
) -> impl Iterator<Item = CacheEntry> {
    parsed(given).filter_map(|cache| {
        let mut cache = cache.of_image(image);
        if cache.kind != GITHUB {
            return Some(cache);
        }
        for (name, value) in &job.0 {
            cache.attributes.entry((*name).to_owned()).or_insert_with(|| value.clone());
        }
        let has = |name: &str| cache.attributes.contains_key(name);
        (has("token") && (has("url") || has("url_v2"))).then_some(cache)
    })
}

#[cfg(test)]
mod tests {
    use xtask_core::workspace::config::origin::Origin;

    use super::*;

    #[test]
    fn githubs_cache_is_used_in_a_job_and_left_out_elsewhere() {
        let given = ["type=gha,url=mine", "type=registry,ref=r,mode=max"].map(|text| Sourced {
            value: text.to_owned(),
            at: Origin::Default,
            is_exact: false,
        });
        let kinds =
            |job: &GithubJob| caches(&given, "a", job).map(|cache| cache.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&GithubJob::default()), ["registry"]);
        let job = GithubJob([("token", "t".to_owned()), ("url", "u".to_owned())].into());
        assert_eq!(kinds(&job), ["gha", "registry"]);
        let attributes = caches(&given, "a", &job).next().unwrap().attributes;
        let expected = [("scope", "a"), ("token", "t"), ("url", "mine")];
        assert_eq!(attributes, expected.map(|(name, it)| (name.to_owned(), it.to_owned())).into());
        assert_eq!(format!("{job:?}"), "GithubJob(hidden)");
    }
}
