//! The examples at the end of each command's help.

pub(crate) const BUILD: &str = "\
Examples:
  cargo xtask build                           everything that is stale
  cargo xtask build web 'auth-*' src/db/      some components and their dependencies
  cargo xtask build -n -v                     what would be built, and every changed file
  cargo xtask build -n --exit-code            fail in CI if an image is stale
  cargo xtask build --since origin/main       what a branch affects
  cargo xtask build --build-arg VERSION=1.2   with a build arg";

pub(crate) const WATCH: &str = "\
Examples:
  cargo xtask watch web                                  web and its dependencies
  cargo xtask watch --on-success 'docker run --rm web'   restart a server after each build
  cargo xtask watch -c config --push                     push what was built";

pub(crate) const PUSH: &str = "\
Examples:
  cargo xtask push -c config                     all images
  cargo xtask push -c config web -i 'auth-*'     the images of a component, and others by name
  cargo xtask push -c config --tag v1.2 --deny-stale
  cargo xtask push --lock images.lock.json       write down what was pushed
  cargo xtask push --from-lock images.lock.json  put these tags back: a roll-back";

pub(crate) const LOCK: &str = "\
Examples:
  cargo xtask lock get web                     registry.example.com/x/web@sha256:...
  cargo xtask lock diff old.json               what was pushed since
  cargo xtask lock diff old.json new.json --json";

pub(crate) const GRAPH: &str = "\
Examples:
  cargo xtask graph web                     a component and its dependencies
  cargo xtask graph --stale                 with the state of each
  cargo xtask graph base --dependents       what depends on a component
  cargo xtask graph --simulate 1,4,16       what more jobs or machines would bring
  cargo xtask graph --html graph.html       a page that can be searched
  cargo xtask graph --check docs/graph.svg  fail in CI if a committed picture is out of date";

pub(crate) const CONTEXT: &str = "\
Examples:
  cargo xtask context web                            the files that are sent, largest first
  cargo xtask context web --image web --tar web.tar  the exact tar stream";

pub(crate) const INPUTS: &str = "\
Examples:
  cargo xtask inputs web           print a build/inputs file for web
  cargo xtask inputs web --check   fail in CI if the hooks of web read anything else";

pub(crate) const WHY: &str = "\
Examples:
  cargo xtask why web           why each image of web is stale, or what it was built from
  cargo xtask why 'auth-*'      the same for several";

pub(crate) const LIST: &str = "\
Examples:
  cargo xtask list                 all components, with their images in the engine
  cargo xtask list 'auth-*' --json";

pub(crate) const CONFIG: &str = "\
Examples:
  cargo xtask config               what holds for every image, and where it is said
  cargo xtask config 'web-*'       for some of them
  cargo xtask config --schema      the JSON schema of xtask.toml, for editors";

pub(crate) const EXPORT: &str = "\
Examples:
  cargo xtask export bake /tmp/bake   then, there: docker buildx bake
  cargo xtask export bake out web     web and what it needs";

pub(crate) const DOCTOR: &str = "\
Examples:
  cargo xtask doctor               what keeps builds from working, or makes them slow
  cargo xtask doctor -c config     also whether there is a login for the registry";

pub(crate) const CLEAN: &str = "\
Examples:
  cargo xtask clean                     what killed builds left in components
  cargo xtask clean --images --dry-run  images without a name that were built here";

pub(crate) const INIT: &str = "\
Examples:
  cargo xtask init --dry-run   what it would write
  cargo xtask init             an xtask.toml for the Dockerfiles of this repository";

pub(crate) const NEW: &str = "\
Examples:
  cargo xtask new base --from debian:12
  cargo xtask new web --from base --needs assets";

pub(crate) const LOGS: &str = "\
Examples:
  cargo xtask logs web      what the hooks and instructions of web wrote last
  cargo xtask logs web -f   and what they write from now on";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  source <(cargo xtask completions bash)                  in ~/.bashrc
  source <(cargo xtask completions zsh)                   in ~/.zshrc, after compinit
  cargo xtask completions fish | source                   in config.fish
  cargo xtask completions powershell | Out-String | Invoke-Expression

They complete both `xtask` and `cargo xtask`.";

pub(crate) const MAN: &str = "\
Examples:
  cargo xtask man build | man -l -
  cargo xtask man --dir ~/.local/share/man/man1   for 'man cargo-xtask'";
