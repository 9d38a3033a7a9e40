//! What `contexts` puts in the place of the images that a Dockerfile names, as Bake spells it.

use std::path::Path;

use crate::image_reference;
use crate::paths::plain;

/// What stands behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// An image, by its reference: `docker-image://REFERENCE`.
    Image(String),
    /// An image of the workspace: `target:NAME`.
    Target(String),
    /// What BuildKit fetches by itself: the URL of a git repository or an archive.
    Url(String),
    /// A folder, relative to the root.
    Folder(String),
}

impl NamedContext {
    /// Parses what stands behind a name.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str, root: &Path) -> Result<Self, String> {
        let checked = |reference: &str| {
            let checked = image_reference::check(reference);
            checked.map(|()| reference.to_owned()).map_err(|error| format!("is no image: {error}"))
        };
        if let Some(reference) = text.strip_prefix("docker-image://") {
            return checked(reference).map(Self::Image);
        }
        if let Some(image) = text.strip_prefix("target:") {
            return checked(image).map(Self::Target);
        }
        if text.starts_with("oci-layout://") {
            return Err(
                "names an OCI layout, which is not supported: write docker-image://REFERENCE, \
                        target:IMAGE, a URL or a folder"
                    .to_owned(),
            );
        }
        if text.contains("://") || text.starts_with("git@") {
            return Ok(Self::Url(text.to_owned()));
        }
        let path = Path::new(text);
        let text = if path.is_absolute() {
            let outside = || format!("is no folder in the workspace at {}", root.display());
            &below(path, root).ok_or_else(outside)?
        } else {
            text
        };
        if text.is_empty() || text.split('/').any(|part| part == "..") {
            return Err(
                "is no folder of the workspace: write its path from the root, which is '.'"
                    .to_owned(),
            );
        }
        Ok(Self::Folder(plain(text)))
    }

    /// The reference of the image that it is, if it is one.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Image(reference) | Self::Target(reference) => Some(reference),
            Self::Url(_) | Self::Folder(_) => None,
        }
    }
}

/// The path from the root of a folder that an option names, whichever links lead to the two.
fn below(folder: &Path, root: &Path) -> Option<String> {
    let strip = |folder: &Path, root: &Path| {
        let below = folder.strip_prefix(root).ok()?.to_str()?;
        let is_plain = !below.split('/').any(|part| part == "..");
        is_plain.then(|| if below.is_empty() { ".".to_owned() } else { below.to_owned() })
    };
    strip(folder, root).or_else(|| strip(&folder.canonicalize().ok()?, &root.canonicalize().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_images_urls_or_folders() {
        let folder = |path: &str| Ok(NamedContext::Folder(path.to_owned()));
        let not_inside =
            "is no folder of the workspace: write its path from the root, which is '.'";
        let cases = [
            ("docker-image://alpine:3", Ok(NamedContext::Image("alpine:3".to_owned()))),
            ("target:base", Ok(NamedContext::Target("base".to_owned()))),
            (
                "https://a.example/b.git#main",
                Ok(NamedContext::Url("https://a.example/b.git#main".to_owned())),
            ),
            ("git@a.example:b.git", Ok(NamedContext::Url("git@a.example:b.git".to_owned()))),
            (".", folder("")),
            ("/work", folder("")),
            ("/work/a/b", folder("a/b")),
            ("./a/b/", folder("a/b")),
            ("a", folder("a")),
            ("/a", Err("is no folder in the workspace at /work")),
            ("a/../..", Err(not_inside)),
            ("", Err(not_inside)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                NamedContext::parse(text, Path::new("/work")),
                expected.map_err(str::to_owned),
                "{text}"
            );
        }
    }
}
