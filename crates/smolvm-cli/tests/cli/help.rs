//! The texts of `--help`, which name every option, exit code and variable.

use crate::site::{Site, assert_prints};

#[test]
fn top() {
    assert_prints!(Site::new().run("--help"), @"");
}

#[test]
fn image() {
    assert_prints!(Site::new().run("image --help"), @"");
}

#[test]
fn pull() {
    assert_prints!(Site::new().run("image pull --help"), @"");
}

#[test]
fn no_command_is_a_usage_error_with_the_help() {
    let finished = Site::new().run("image");
    assert_eq!(finished.code, Some(2));
    assert!(finished.stdout.is_empty());
    assert!(
        finished.stderr.contains("Usage: smolvm image"),
        "{finished}"
    );
}

#[test]
fn examples_parse() {
    for command in [
        "list", "pull", "verify", "inspect", "path", "pin", "rm", "prune",
    ] {
        let help = Site::new().run(&format!("image {command} --help")).stdout;
        let examples = help.split("Examples:\n").nth(1).unwrap();
        assert!(
            examples.lines().all(|line| line.contains("smolvm image ")),
            "{examples}"
        );
        for line in examples.lines() {
            let words = line
                .split("smolvm ")
                .nth(1)
                .unwrap()
                .split("  ")
                .next()
                .unwrap();
            let words = words.split([')', '|', '>']).next().unwrap();
            let finished = Site::new().run(&format!("{words} --offline"));
            assert_ne!(finished.code, Some(2), "{words}: {finished}");
        }
    }
}

#[test]
fn completions_are_scripts_of_all_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let finished = Site::new().run(&format!("completions {shell}"));
        assert_eq!(finished.code, Some(0));
        assert!(finished.stdout.contains("inspect"), "{finished}");
    }
}
