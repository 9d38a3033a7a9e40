//! The keys of `xtask.toml`: what each is called, and what it takes.
//!
//! The names are Bake's where Bake has them, with plurals for lists, and each has one spelling.
//! `OTHER_SPELLINGS` knows what other tools call them, to say what was meant.

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A list of texts.
    List,
    /// A text, or a list of texts.
    TextOrList,
    /// A text, or a list of texts, which are different things.
    Command,
    /// A table of texts.
    Map,
    /// A table of texts, each of which may instead be taken from the environment.
    Args,
    /// A list of texts such as `id=NAME,src=FILE`, or of tables with the same keys.
    Secrets,
    /// A table of lists, or a list of tables.
    Matrix,
    /// A table of lists.
    Groups,
    /// Tables of images.
    Images,
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top of the file only.
    Top,
    /// In the table of an image that has a `dockerfile`.
    Definition,
    /// In every table of an image.
    Image,
    /// In every table of an image, and at the top, for all of them.
    Both,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Where it may stand.
    pub place: Place,
    /// What it is for, as in the JSON schema.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, place: Place, doc: &'static str) -> Key {
    Key { name, kind, place, doc }
}

/// All keys, in the order of the documentation.
pub const KEYS: [Key; 30] = [
    key(
        "registry",
        Kind::TextOrList,
        Place::Top,
        "Where images are pushed to, as HOST[:PORT]/PATH. The first is {registry}; images that \
         Dockerfiles name with any of them are the workspace's",
    ),
    key(
        "share",
        Kind::Text,
        Place::Top,
        "Where images are shared by their fingerprints, as HOST[:PORT]/PATH: 'build' asks there \
         before it builds",
    ),
    key(
        "flavors",
        Kind::List,
        Place::Top,
        "The flavors that --flavor chooses from; common, k8s and yarn by default",
    ),
    key(
        "external",
        Kind::List,
        Place::Top,
        "Globs of references that are never images of the workspace",
    ),
    key("exclude", Kind::List, Place::Top, "Globs of paths in which no Dockerfiles are looked for"),
    key(
        "group",
        Kind::Groups,
        Place::Top,
        "Names for several components and images; 'default' is what is built without a name",
    ),
    key("image", Kind::Images, Place::Top, "Images, by name: what defines or adjusts them"),
    key(
        "dockerfile",
        Kind::TextOrList,
        Place::Definition,
        "Patterns of the paths of Dockerfiles: {word} captures, * and ** match, […] is optional",
    ),
    key(
        "name",
        Kind::Text,
        Place::Definition,
        "The image's name, which may have a tag; the table's name by default",
    ),
    key(
        "matrix",
        Kind::Matrix,
        Place::Definition,
        "Makes one image for each combination of values",
    ),
    key(
        "context",
        Kind::Text,
        Place::Both,
        "The folder that is sent, from the root; the component's folder by default",
    ),
    key("args", Kind::Args, Place::Both, "Build args"),
    key(
        "args-file",
        Kind::TextOrList,
        Place::Both,
        "Files with lines NAME=VALUE for build args; one that ends in '?' may be missing",
    ),
    key("target", Kind::Text, Place::Both, "The stage to build; the last by default"),
    key("network", Kind::Text, Place::Both, "The network of RUN instructions"),
    key(
        "platforms",
        Kind::List,
        Place::Both,
        "The platform to build for, as OS/ARCH[/VARIANT]; the engine's own by default",
    ),
    key("labels", Kind::Map, Place::Both, "Labels of the image"),
    key("extra-hosts", Kind::Map, Place::Both, "Host names for RUN instructions, with addresses"),
    key(
        "secrets",
        Kind::Secrets,
        Place::Both,
        "Secrets for RUN --mount=type=secret: id, and src or env",
    ),
    key("ssh", Kind::List, Place::Both, "SSH agents for RUN --mount=type=ssh: id, or id=SOCKET"),
    key(
        "contexts",
        Kind::Map,
        Place::Both,
        "What stands in the place of images that the Dockerfile names: docker-image://REFERENCE, \
         target:IMAGE for one of the workspace, a URL, or a folder, from the root",
    ),
    key(
        "cache-from",
        Kind::List,
        Place::Both,
        "Images whose layers can be used as cache, or type=TYPE with its attributes",
    ),
    key(
        "cache-to",
        Kind::List,
        Place::Both,
        "Where the build cache is written to: type=inline, or type=TYPE with its attributes",
    ),
    key(
        "no-cache-filter",
        Kind::List,
        Place::Both,
        "Stages that are built without the build cache",
    ),
    key(
        "attest",
        Kind::List,
        Place::Both,
        "Attestations, as type=provenance[,mode=MODE] and type=sbom",
    ),
    key(
        "tags",
        Kind::List,
        Place::Both,
        "References to push to; [\"{registry}/{image}:{tag}\"] by default, [] for none",
    ),
    key(
        "depends-on",
        Kind::List,
        Place::Both,
        "Components, images or folders that this needs, as in component.dep",
    ),
    key(
        "pre-build",
        Kind::Command,
        Place::Both,
        "A hook that runs before the build: a script, or a program with its arguments",
    ),
    key(
        "post-build",
        Kind::Command,
        Place::Both,
        "A hook that runs after the build: a script, or a program with its arguments",
    ),
    key(
        "inputs",
        Kind::List,
        Place::Both,
        "What the hooks read outside of their component, as the lines of build/inputs",
    ),
];

/// What others call a key, and what it is called here.
pub(crate) const OTHER_SPELLINGS: [(&str, &str); 43] = [
    ("addHost", "extra-hosts"),
    ("add-host", "extra-hosts"),
    ("add-hosts", "extra-hosts"),
    ("args_file", "args-file"),
    ("argsFile", "args-file"),
    ("build-arg", "args"),
    ("build-args", "args"),
    ("build_args", "args"),
    ("buildArgs", "args"),
    ("build_network", "network"),
    ("additional_contexts", "contexts"),
    ("attests", "attest"),
    ("build-context", "contexts"),
    ("build-contexts", "contexts"),
    ("cache_from", "cache-from"),
    ("cacheFrom", "cache-from"),
    ("cache_to", "cache-to"),
    ("cacheTo", "cache-to"),
    ("context_root", "context"),
    ("dependencies", "depends-on"),
    ("dependsOn", "depends-on"),
    ("depends_on", "depends-on"),
    ("extra_build_args", "args"),
    ("extra_hosts", "extra-hosts"),
    ("extraHosts", "extra-hosts"),
    ("file", "dockerfile"),
    ("groups", "group"),
    ("image_labels", "labels"),
    ("image_tags", "tags"),
    ("images", "image"),
    ("label", "labels"),
    ("no_cache_filter", "no-cache-filter"),
    ("noCacheFilter", "no-cache-filter"),
    ("platform", "platforms"),
    ("post_build", "post-build"),
    ("pre_build", "pre-build"),
    ("prefix", "registry"),
    ("registries", "registry"),
    ("requires", "depends-on"),
    ("secret", "secrets"),
    ("source", "dockerfile"),
    ("tag", "tags"),
    ("target_stage", "target"),
];
