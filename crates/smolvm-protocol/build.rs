//! Tells the build scripts of direct dependents where this crate's source lies.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:source={dir}/src/lib.rs");
}
