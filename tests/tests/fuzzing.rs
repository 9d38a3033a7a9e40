//! Broken input of all kinds, made from the seeds of the fuzz targets.
//!
//!     FUZZ_MS=60000 cargo test -p tests --test fuzzing      # a minute for each target
//!
//! A failure prints its seed; `tests/fuzz` looks for more with `cargo fuzz`.

use std::time::Duration;

use arbtest::arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use tests::fuzzing::{TARGETS, seeds};

/// Pieces that mean something to one reader or another.
const PIECES: [&[u8]; 24] = [
    b"$",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"=",
    b":",
    b"\n",
    b"\r\n",
    b"`",
    b"<<E",
    b"#",
    b"!",
    b"**",
    b"../",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"${A:-",
    b"\x1b[31m",
    b"\xf0\x9f\x98\x80",
];

/// A seed with some changes, or another seed in its middle.
fn mutated(seeds: &[Vec<u8>], random: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = random.choose(seeds)?.clone();
    for _ in 0..random.int_in_range(1..=8)? {
        let offset = random.int_in_range(0..=bytes.len())?;
        let end = random.int_in_range(offset..=bytes.len())?;
        match random.int_in_range(0..=6)? {
            0 if offset < bytes.len() => bytes[offset] = random.arbitrary()?,
            1 => drop(bytes.drain(offset..end)),
            2 => bytes.truncate(offset),
            // Twice as long, at most a few times.
            3 if bytes.len() < 1 << 16 => bytes.extend_from_within(offset..end),
            4 => drop(bytes.splice(offset..end, random.choose(seeds)?.iter().copied())),
            _ => drop(bytes.splice(offset..offset, random.choose(&PIECES)?.iter().copied())),
        }
    }
    Ok(bytes)
}

#[test]
fn no_reader_breaks_on_broken_input() {
    let budget = std::env::var("FUZZ_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        for seed in &seeds {
            target(seed);
        }
        println!("{name}");
        arbtest(|random| {
            target(&mutated(&seeds, random)?);
            Ok(())
        })
        .budget(Duration::from_millis(budget))
        .size_min(64)
        .size_max(1024);
    }
}
