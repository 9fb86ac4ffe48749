//! Boots real kernels with the agent as their first process.
#![allow(missing_docs, reason = "a test has no users")]

mod machine;
mod newc;

use machine::Setup;

/// Behaviour 45, with an init of the image's own.
#[test]
fn the_images_init_runs_as_the_first_process() {
    let Some(setup) = Setup::of_image("debian-tiny") else { return };
    let mut machine = setup.boot();
    let line = machine.wait_for("Hello from SmolVM!");
    assert!(line.ends_with("root on ext4"), "{line}");
}
