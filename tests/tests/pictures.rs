//! The pictures of README.md: a round on a terminal, and the page of `graph --html`. They are
//! drawn from what the tool shows of one example workspace, and a test fails once it shows
//! something else. To draw them again:
//!
//! `UPDATE_EXPECT=1 cargo test -p tests --test pictures`

use std::env;
use std::fs;
use std::path::Path;

use expect_test::expect_file;
use tests::{Workspace, chromium, repository};

/// A shop: services on one base, with a protocol that several of them share. The hooks of
/// `web` and `worker` end once `target/wait` is gone.
fn shop() -> Workspace {
    let hook = |line: &str| {
        format!("#!/bin/sh\necho '{line}'\nwhile [ -e target/wait ]; do sleep 0.1; done\n")
    };
    let on_base = "FROM tt-base\nCOPY app /app\n";
    let with_protocol = "FROM tt-base\nCOPY app /app\nCOPY dependency/protocol /protocol\n";
    let mut workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY build /base\n")
        .file("src/protocol/orders.proto", "message Order {}\n")
        .image("auth", on_base)
        .image("api", &format!("{with_protocol}COPY --from=tt-auth /app /auth\n"))
        .image("web", on_base)
        .image("worker", with_protocol)
        .image("gateway", "FROM tt-base\nCOPY --from=tt-api /app /api\n")
        .image(
            "e2e",
            "FROM tt-gateway\nCOPY --from=tt-web /app /web\nCOPY --from=tt-worker /app /worker\n\
             COPY app /app\n",
        )
        .script("src/web/build/build-pre.sh", &hook("bundled 48 of 120 pages"))
        .script("src/worker/build/build-pre.sh", &hook("generated orders.rs"));
    for component in ["auth", "api", "web", "worker", "e2e"] {
        workspace = workspace.file(&format!("src/{component}/app/main.rs"), component);
    }
    for component in ["api", "worker"] {
        workspace = workspace.file(&format!("src/{component}/build/component.dep"), "protocol\n");
    }
    workspace
}

#[test]
fn the_picture_of_a_round_is_what_a_terminal_shows() {
    let workspace = shop();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("src/api/app/main.rs", "changed");
    workspace.write("src/web/app/main.rs", "changed");
    workspace.write("target/wait", "");
    let terminal = workspace.start_on_terminal(76, &["build", "--color", "always", "-j", "3"]);
    let complete = ["4 done, 2 running, 1 waiting", "pages", "orders.rs"];
    let picture = terminal.picture("cargo xtask build -j 3", &complete);
    fs::remove_file(workspace.root().join("target/wait")).unwrap();
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    expect_file!["../../docs/round.svg"].assert_eq(&picture);
}

/// A PNG file says what page it shows in a text chunk behind its header, which is always 33
/// bytes long.
const HEADER: usize = 33;

fn text_chunk(page: &str) -> Vec<u8> {
    let text = format!("tEXtComment\0page {}", blake3::hash(page.as_bytes()).to_hex());
    let length = u32::try_from(text.len() - 4).unwrap();
    let length = length.to_be_bytes();
    [&length[..], text.as_bytes(), &crc(text.as_bytes()).to_be_bytes()].concat()
}

/// The checksum of a chunk.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

fn shoot(page: &Path, hash: &str, chunk: &[u8]) -> Vec<u8> {
    let file = page.with_extension("png");
    let screenshot = format!("--screenshot={}", file.display());
    let light = "--blink-settings=preferredColorScheme=1";
    let output = chromium(page, hash, (1220, 520), &[light, &screenshot]);
    assert!(output.status.success());
    let picture = fs::read(file).unwrap();
    [&picture[..HEADER], chunk, &picture[HEADER..]].concat()
}

#[test]
fn the_picture_of_the_graph_page_is_of_the_page_as_it_is_now() {
    let workspace = shop();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("src/api/app/main.rs", "changed");
    let _ = workspace.xtask(&["graph", "--stale", "--html", "graph.html"]).exits_with(0);
    let page = fs::read_to_string(workspace.root().join("graph.html")).unwrap();
    let page = page.replace(&workspace.own("tt-"), "");
    let chunk = text_chunk(&page);
    let path = repository().join("docs/graph-page.png");
    let picture = fs::read(&path).unwrap_or_default();
    let is_fresh = picture.get(HEADER..).is_some_and(|rest| rest.starts_with(&chunk));
    if env::var_os("UPDATE_EXPECT").is_some() {
        let page = workspace.write_bytes("target/page.html", page.as_bytes());
        fs::write(path, shoot(&page, "#api", &chunk)).unwrap();
    } else {
        assert!(
            is_fresh,
            "docs/graph-page.png shows another page: run \
             'UPDATE_EXPECT=1 cargo test -p tests --test pictures'"
        );
    }
}
