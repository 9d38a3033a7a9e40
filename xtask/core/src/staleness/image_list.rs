//! The images that an engine lists, read from its JSON.
//!
//! An engine can have thousands of images, and each build begins with this list. So only what
//! matters is read, in this crate, which is optimized.

use std::collections::HashMap;

use serde::Deserialize;

/// An image in the list of an engine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedImage {
    /// The image ID.
    pub id: String,
    /// Engines say null where there is none.
    repo_tags: Option<Vec<String>>,
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    size: i64,
}

impl ListedImage {
    /// The names that it has. Engines call one without a name `<none>:<none>`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.repo_tags.iter().flatten().map(String::as_str);
        names.filter(|name| *name != "<none>:<none>")
    }

    /// The value of one of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        u64::try_from(self.size).unwrap_or_default()
    }
}

/// Reads the list.
///
/// # Errors
/// It is not one.
pub fn parse(json: &[u8]) -> Result<Vec<ListedImage>, serde_json::Error> {
    serde_json::from_slice(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_leaves_out_is_none() {
        let json = br#"[
            {"Id": "1", "RepoTags": null, "Labels": null, "Size": -1, "Containers": -1},
            {"Id": "2", "RepoTags": ["<none>:<none>", "a:1"], "Labels": {"k": "v"}, "Size": 7},
            {"Id": "3"}
        ]"#;
        let images = parse(json).unwrap();
        let seen = images.iter().map(|image| {
            (image.id.as_str(), image.names().collect::<Vec<_>>(), image.label("k"), image.size())
        });
        let expected =
            [("1", vec![], None, 0), ("2", vec!["a:1"], Some("v"), 7), ("3", vec![], None, 0)];
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        assert!(parse(b"{}").is_err());
    }
}
