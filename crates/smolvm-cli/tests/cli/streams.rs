//! Standard output that is closed, full or no terminal.

use std::io::pipe;
use std::process::Stdio;

use crate::site::Site;

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let site = Site::with_dev();
    for args in [&["image", "list"][..], &["completions", "bash"], &["image", "list", "--json"]] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let finished =
            site.finish(site.command(args.iter().copied()).stdout(writer).stderr(Stdio::piped()));
        assert_eq!(finished.code, Some(0), "{args:?}: {finished}");
        assert_eq!(finished.stderr, "", "{args:?}");
    }
}

#[test]
fn the_work_is_done_all_the_same() {
    let site = Site::with_dev();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let finished = site.finish(site.command(["image", "pull", "dev"]).stdout(writer));
    assert_eq!(finished.code, Some(0), "{finished}");
    assert!(site.cache("dev/rootfs.ext4").exists());
}

#[test]
fn help_to_a_closed_pipe_does_not_panic() {
    let site = Site::new();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let finished = site.finish(site.command(["--help"]).stdout(writer).stderr(Stdio::piped()));
    assert_eq!(finished.stderr, "");
}

#[test]
fn a_full_disk_under_standard_output_is_an_error() {
    let site = Site::new();
    for args in [&["image", "list"][..], &["image", "list", "--json"]] {
        let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = site.command(args.iter().copied());
        let finished = site.finish(command.stdout(full.into_parts().0).stderr(Stdio::piped()));
        assert_eq!(finished.code, Some(1), "{finished}");
        assert!(finished.stderr.contains("error: cannot write to standard output: "), "{finished}");
    }
}

#[test]
fn colours_only_where_asked_for() {
    let site = Site::with_dev();
    let has_colour = |line: &str, no_color: Option<&str>| {
        let mut command = site.command(line.split(' '));
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let finished = site.finish(&mut command);
        finished.stdout.contains('\u{1b}') || finished.stderr.contains('\u{1b}')
    };
    assert!(!has_colour("image list", None), "no terminal");
    assert!(has_colour("image list --color always", None));
    assert!(has_colour("image nonsense --color always", None));
    assert!(has_colour("image pull nope --color=always", None));
    assert!(has_colour("image list --color always", Some("1")), "an option wins over a variable");
    assert!(!has_colour("image list --color never", None));
    assert!(!has_colour("image list --json --color always", None));
}

#[test]
fn verbosity_goes_to_standard_error() {
    let site = Site::with_dev();
    assert_eq!(site.run("image pull dev --quiet -- ").stderr, "");
    let chatty = site.run("image rm dev -vv");
    assert_eq!(chatty.stdout.lines().count(), 1, "{chatty}");
}
