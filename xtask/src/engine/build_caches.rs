//! The build caches of an image, as BuildKit takes them.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use xtask_core::workspace::config::exports::{CacheEntry, GITHUB};
use xtask_core::workspace::config::settings::{ImageSettings, Sourced};

use crate::engine::local_cache::LocalCache;

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

/// The caches to read for an image; those of this machine by what is in them, if there is anything.
pub(crate) fn imports(
    given: &[Sourced<String>],
    image: &str,
    job: &GithubJob,
    root: &Path,
) -> impl Iterator<Item = CacheEntry> {
    caches(given, image, job).filter_map(|mut cache| match LocalCache::of(&mut cache, root) {
        Some(folder) => {
            let digest = digest_in(&cache, &folder)?;
            cache.attributes.insert("digest".to_owned(), digest);
            Some(cache)
        }
        None => Some(cache),
    })
}

/// The digest of a cache of this machine: the one that is given, or that of its tag.
fn digest_in(cache: &CacheEntry, folder: &LocalCache) -> Option<String> {
    let given = |name: &str| cache.attributes.get(name).map(String::as_str);
    given("digest").map(str::to_owned).or_else(|| folder.digest(given("tag")))
}

/// The folders of caches to read that have none.
pub(crate) fn missing_caches(settings: &ImageSettings, root: &Path) -> Vec<String> {
    let missing = parsed(&settings.cache_from).filter_map(|mut cache| {
        let folder = LocalCache::of(&mut cache, root)?;
        digest_in(&cache, &folder).is_none().then(|| folder.folder().display().to_string())
    });
    missing.collect()
}

/// The caches to write for an image.
pub(crate) fn exports(
    given: &[Sourced<String>],
    image: &str,
    job: &GithubJob,
    root: &Path,
) -> impl Iterator<Item = CacheEntry> {
    caches(given, image, job).map(|mut cache| {
        LocalCache::of(&mut cache, root);
        cache
    })
}

/// The caches of this machine that are read from or written to.
pub(crate) fn local_caches(settings: &ImageSettings, root: &Path) -> Vec<LocalCache> {
    let all = parsed(&settings.cache_from).chain(parsed(&settings.cache_to));
    all.filter_map(|mut cache| LocalCache::of(&mut cache, root)).collect()
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
