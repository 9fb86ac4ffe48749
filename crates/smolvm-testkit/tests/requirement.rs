//! A skip is seen in a green run, and is a failure where nothing may be skipped.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use smolvm_testkit::{REQUIRE_ALL, skip};

#[test]
#[ignore = "the subject of the other test, which runs it in a process of its own"]
fn subject() {
    skip("no moon tonight");
}

fn run_subject(require_all: &str, skips: &Path) -> Output {
    let binary = std::env::current_exe().expect("this binary");
    Command::new(binary)
        .args(["--ignored", "--exact", "subject"])
        .env(REQUIRE_ALL, require_all)
        .env("SMOLVM_TEST_SKIPS", skips)
        .output()
        .expect("a run")
}

#[test]
fn a_skip_is_printed_or_fails() {
    let skips = tempfile::NamedTempFile::new().expect("a file");
    let skipped = run_subject("0", skips.path());
    let stderr = String::from_utf8_lossy(&skipped.stderr);
    assert!(skipped.status.success());
    assert!(stderr.contains("SKIPPED subject: no moon tonight"), "{stderr}");
    let listed = fs_err::read_to_string(skips.path()).expect("the lines");
    assert_eq!(listed, "SKIPPED subject: no moon tonight\n");
    assert!(!run_subject("1", skips.path()).status.success());
}
