//! On a terminal (a pseudo-terminal that script(1) makes): bars and colours.

use std::process::{Command, Stdio};

use smolvm_testkit::{Fault, Route, skip};

use crate::site::{Finished, Site, rootfs};

/// Runs `smolvm LINE` on a terminal of 100 columns; its streams are one, as on the screen.
fn on_terminal(site: &Site, line: &str, variables: &[(&str, &str)]) -> Option<Finished> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("script(1) of util-linux is not installed");
        return None;
    }
    let binary = env!("CARGO_BIN_EXE_smolvm");
    let mut command = Command::new("script");
    let line = format!("stty cols 100 && exec '{binary}' {line}");
    command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", site.home("")).env("TERM", "xterm");
    command.env("SHELL", "/bin/sh").envs(variables.iter().copied()).stdin(Stdio::null());
    Some(site.finish(&mut command))
}

#[test]
fn bars_show_bytes_rate_and_time_left() {
    let site = Site::with_dev();
    let slow = Fault::Throttle { bytes_per_second: 3 << 20 };
    site.serve("/rootfs", Route::new(rootfs()).etag("\"r\"").fault(slow));
    let Some(finished) = on_terminal(&site, "image pull dev", &[]) else {
        return;
    };
    assert_eq!(finished.code, Some(0), "{finished}");
    for part in ["dev rootfs", " of 3.00 MiB", "MiB/s", " left", "dev: \u{1b}[32mready"] {
        assert!(finished.stdout.contains(part), "{part:?} in {finished}");
    }
}

#[test]
fn no_bars_with_json_or_quiet() {
    let site = Site::with_dev();
    let Some(json) = on_terminal(&site, "image pull dev --json", &[]) else {
        return;
    };
    assert_eq!(json.stdout.trim_end().lines().count(), 1, "{json}");
    assert!(json.stdout.starts_with('{'), "{json}");
    let quiet = on_terminal(&site, "image pull dev --quiet", &[]).unwrap();
    assert_eq!(quiet.stdout, "");
}

#[test]
fn no_color_is_honoured() {
    let site = Site::with_dev();
    let Some(plain) = on_terminal(&site, "image list", &[("NO_COLOR", "1")]) else {
        return;
    };
    assert!(!plain.stdout.contains('\u{1b}'), "{plain}");
    let colourful = on_terminal(&site, "image list", &[]).unwrap();
    assert!(colourful.stdout.contains('\u{1b}'), "{colourful}");
}

#[test]
fn a_dumb_terminal_gets_lines() {
    let site = Site::with_dev();
    let Some(dumb) = on_terminal(&site, "image pull dev", &[("TERM", "dumb")]) else {
        return;
    };
    assert!(!dumb.stdout.contains('\u{1b}'), "{dumb}");
    assert!(dumb.stdout.contains("dev: rootfs: received"), "{dumb}");
}
