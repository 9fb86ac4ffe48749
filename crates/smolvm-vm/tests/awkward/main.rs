//! Awkward commands: each is run by Python's `subprocess` on this host and by ours in a guest with
//! the same userland, and has to give the same results.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../outer/backend.rs"]
mod backend;
#[path = "../outer/mod.rs"]
mod outer;
mod reference;
mod row;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use outer::Outer;
use reference::Reference;
use row::{Outcome, Row};
use smolvm_testkit::skip;
use smolvm_vm::VmConfig;

/// Debian with dash and GNU coreutils, as the host's own commands are likely to be.
const IMAGE: &str = "debian-large";

/// Where it is written down what `subprocess` gives, in the machine in which Firecracker runs.
const RECORDED: &str = "/opt/recorded";

/// The variable that names the directory in which commands run there.
const WORK: &str = "SMOLVM_TEST_WORK";

/// Below the directory of the test, for a row that runs there.
const ODD_DIRECTORY: &str = "odd *\n\"é";

/// Behaviour 47: exit code, standard output, standard error, signals, a time-out, large and binary
/// output, input, fifty commands at once: all as `subprocess` has it.
#[test]
fn awkward_commands_give_what_subprocess_gives() {
    let Some(image) = image() else { return };
    let Some(mut reference) = Reference::start() else { return };
    let site = tempfile::tempdir().unwrap();
    let work = work_in(site.path());
    assert_same(&image, site.path(), &work, |row| reference.run(row, &work));
}

/// The same on Firecracker, in a machine that has KVM. Python is not in there: what it gives is
/// written down here.
#[test]
fn awkward_commands_give_the_same_on_real_firecracker() {
    let Some(mut reference) = Reference::start() else { return };
    let site = tempfile::tempdir().unwrap();
    let work = work_in(site.path());
    let all = table::rows().into_iter().chain(table::at_once());
    let answers: Vec<String> = all.map(|row| reference.ask(&row, &work)).collect();
    let recorded = site.path().join("recorded");
    fs_err::write(&recorded, answers.concat()).unwrap();
    let Some(outer) = Outer::boot(&[IMAGE], &[(&recorded, RECORDED)], 1792) else { return };
    outer.run_tests(&["is_run_inside_the_machine_of_another_test"], &[(WORK, &work)]);
}

#[test]
#[ignore = "an entry point that another test runs"]
fn is_run_inside_the_machine_of_another_test() {
    let Ok(work) = std::env::var(WORK) else { return };
    let image = image().unwrap();
    let site = tempfile::tempdir().unwrap();
    let recorded = fs_err::read_to_string(RECORDED).unwrap();
    let mut recorded = recorded.lines();
    assert_same(&image, site.path(), &work, |row| reference::parse(recorded.next().unwrap(), row));
    assert_eq!(recorded.next(), None);
}

fn image() -> Option<PathBuf> {
    let Some(images) = std::env::var_os("SMOLVM_TEST_IMAGES") else {
        skip("SMOLVM_TEST_IMAGES names no directory with images");
        return None;
    };
    let image = Path::new(&images).join(IMAGE);
    if !image.is_dir() {
        skip(&format!("there is no image {}", image.display()));
        return None;
    }
    Some(image)
}

/// Makes the directory that commands run in: by the same path on both sides, so that what a command
/// says of it is the same.
fn work_in(site: &Path) -> String {
    let work = site.join("work");
    fs_err::create_dir_all(work.join(ODD_DIRECTORY)).unwrap();
    work.to_str().unwrap().to_owned()
}

/// Runs all rows in a guest, each of which has to give what `reference` gives. That is asked for
/// the rows in their order.
fn assert_same(image: &Path, site: &Path, work: &str, mut reference: impl FnMut(&Row) -> Outcome) {
    let config = VmConfig::new(image.join("vmlinuz"), image.join("rootfs.ext4"))
        .initrd(image.join("initrd.img"))
        .vms_dir(site.join("vms"));
    let vm = backend::boot(config).unwrap();
    let directory = Path::new(work).join(ODD_DIRECTORY);
    let made = vm.run([Path::new("mkdir"), Path::new("-p"), &directory]).unwrap();
    assert!(made.ok(), "{made:?}");

    let rows = table::rows();
    assert!(rows.len() >= 40, "{}", rows.len());
    let run = |row: &Row| {
        let started = Instant::now();
        let outcome = row.run(&vm, work);
        println!("{:6.1} s: {}", started.elapsed().as_secs_f64(), row.name);
        outcome
    };
    let one_by_one = rows.iter().map(|row| (row, run(row)));
    let mut differences: Vec<String> =
        one_by_one.filter_map(|(row, ours)| difference(row, &ours, &reference(row))).collect();

    let rows = table::at_once();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let runs: Vec<_> = rows.iter().map(|row| scope.spawn(|| row.run(&vm, work))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let at_once = rows.iter().zip(&outcomes);
    differences.extend(at_once.filter_map(|(row, ours)| difference(row, ours, &reference(row))));

    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// What is not as `subprocess` has it.
fn difference(row: &Row, ours: &Outcome, theirs: &Outcome) -> Option<String> {
    (!ours.is_as(theirs, row))
        .then(|| format!("{}:\n  ours       {ours:?}\n  subprocess {theirs:?}", row.name))
}
