//! What happens to a test whose machine lacks something: a visible skip, or a failure in CI.

use std::io::Write as _;
use std::path::PathBuf;

/// The environment variable that, set to `1`, turns every skip into a failure.
pub const REQUIRE_ALL: &str = "SMOLVM_TEST_REQUIRE_ALL";

/// The environment variable that names a file for the lines about skips: a runner that shows
/// nothing of a test that passes can print it in the end.
const SKIPS: &str = "SMOLVM_TEST_SKIPS";

/// Says that the calling test is skipped, and why; the caller then returns.
///
/// The line goes to the standard error of the process, past the capture of the test harness, and
/// to the file that `SMOLVM_TEST_SKIPS` names.
///
/// # Panics
///
/// When [`REQUIRE_ALL`] is `1`.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var_os(REQUIRE_ALL).is_none_or(|value| value != "1"),
        "{test} cannot run, and {REQUIRE_ALL}=1 forbids to skip it: {reason}"
    );
    tell(&test, reason);
}

/// The same for what a machine may lack however it was set up, since no registry of packages offers
/// it: the environment variable `why_not` says so, and no requirement forbids the skip then.
///
/// # Panics
///
/// When that variable is not set and [`REQUIRE_ALL`] is `1`.
pub fn skip_unless_offered(why_not: &str, reason: &str) {
    match std::env::var(why_not) {
        Ok(why) => tell(std::thread::current().name().unwrap_or("a test"), &why),
        Err(_) => skip(reason),
    }
}

/// The directory that an environment variable names; `None`, said aloud, where it names none.
///
/// # Panics
///
/// As [`skip`].
pub fn named_directory(variable: &str) -> Option<PathBuf> {
    let directory = std::env::var_os(variable).map(PathBuf::from);
    if directory.is_none() {
        skip(&format!("{variable} names no directory"));
    }
    directory
}

fn tell(test: &str, reason: &str) {
    // `eprintln!` would be captured, and shown only for a test that fails.
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(SKIPS) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
