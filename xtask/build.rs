//! Links the program at a fixed address.
//!
//! It is not optimized in development builds, so it has some 130,000 pointers that the dynamic linker
//! would otherwise adjust, in 300 pages, at every start: about 3 ms.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
