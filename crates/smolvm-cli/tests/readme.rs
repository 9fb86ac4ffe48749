//! The commands of the README, run as they stand there, in a home and against a server of the
//! test's own.

use std::path::Path;
use std::process::Command;

use smolvm_testkit::content::noise;
use smolvm_testkit::{Route, Server};

const README: &str = include_str!("../../../README.md");

/// Commands that CI runs by itself: it is `./test` that runs this test, installs the Python package
/// in an environment of its own, and then runs the quickstart, which builds the command.
const ELSEWHERE: [&str; 4] =
    ["./quickstart", "./test", "cargo build --release --package smolvm-cli", "pip install ."];

/// The lines of all shell blocks, without what CI runs elsewhere.
fn script() -> String {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in README.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => lines.push(line),
            _ => {}
        }
    }
    let elsewhere = |line: &&str| {
        let command = line.split(" #").next().unwrap_or(line).split("  ").next().unwrap_or(line);
        !ELSEWHERE.contains(&command.trim())
    };
    lines.into_iter().filter(elsewhere).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_command_of_the_readme_runs() {
    let script = script();
    assert!(script.matches("smolvm image").count() >= 9, "the README has lost its commands");
    assert!(!script.contains("cargo") && !script.contains("./"), "nobody runs:\n{script}");

    let server = Server::start();
    server.route("/vmlinuz", Route::new(noise(1, 100_000)));
    server.route("/rootfs.ext4", Route::new(noise(2, 1_000_000)));
    let home = tempfile::tempdir().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_smolvm")).parent().unwrap();
    let output = Command::new("bash")
        .args(["-euxc", &script.replace("http://127.0.0.1:8080", &server.url(""))])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    for shown in ["my-image", "vmlinux.bin", "kernel_sha256 = ", "no pin: kernel, rootfs"] {
        assert!(stdout.contains(shown), "{shown} is missing in:\n{stdout}\n{stderr}");
    }
}
