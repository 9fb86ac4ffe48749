//! Awkward commands: each is run by Python's `subprocess` on this host and by ours in a guest with
//! the same userland, and has to give the same results.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod reference;
mod row;
mod table;

use std::path::Path;

use reference::Reference;
use row::{Outcome, Row};
use smolvm_testkit::skip;
use smolvm_vm::{Vm, VmConfig};

/// Debian with dash and GNU coreutils, as the host's own commands are likely to be.
const IMAGE: &str = "debian-large";

/// Below the directory of the test, for a row that runs there.
const ODD_DIRECTORY: &str = "odd *\n\"é";

/// Behaviour 47: exit code, standard output, standard error, signals, a time-out, large and binary
/// output, input, fifty commands at once: all as `subprocess` has it.
#[test]
fn awkward_commands_give_what_subprocess_gives() {
    let Some(images) = std::env::var_os("SMOLVM_TEST_IMAGES") else {
        return skip("SMOLVM_TEST_IMAGES names no directory with images");
    };
    let image = Path::new(&images).join(IMAGE);
    if !image.is_dir() {
        return skip(&format!("there is no image {}", image.display()));
    }
    let Some(mut reference) = Reference::start() else { return };
    let site = tempfile::tempdir().unwrap();
    let config = VmConfig::new(image.join("vmlinuz"), image.join("rootfs.ext4"))
        .initrd(image.join("initrd.img"))
        .vms_dir(site.path().join("vms"));
    let vm = Vm::boot(config).unwrap();

    // By the same path on both sides, so that what a command says of it is the same.
    let work = site.path().join("work");
    fs_err::create_dir_all(work.join(ODD_DIRECTORY)).unwrap();
    let made = vm.run([Path::new("mkdir"), Path::new("-p"), &work.join(ODD_DIRECTORY)]).unwrap();
    assert!(made.ok(), "{made:?}");
    let work = work.to_str().unwrap();

    let rows = table::rows();
    assert!(rows.len() >= 40, "{}", rows.len());
    let one_by_one = rows.iter().map(|row| (row, row.run(&vm, work)));
    let mut differences: Vec<String> =
        one_by_one.filter_map(|(row, ours)| difference(row, &ours, &mut reference, work)).collect();

    let rows = table::at_once();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let runs: Vec<_> = rows.iter().map(|row| scope.spawn(|| row.run(&vm, work))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let at_once = rows.iter().zip(&outcomes);
    differences
        .extend(at_once.filter_map(|(row, ours)| difference(row, ours, &mut reference, work)));

    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// What is not as `subprocess` has it.
fn difference(row: &Row, ours: &Outcome, reference: &mut Reference, work: &str) -> Option<String> {
    let theirs = reference.run(row, work);
    (!ours.is_as(&theirs, row))
        .then(|| format!("{}:\n  ours       {ours:?}\n  subprocess {theirs:?}", row.name))
}
