//! `smolvm vm pause`, `resume`, `snapshot` and `restore`, and what is left where they are killed.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use smolvm_testkit::Numbers;

use crate::vms::{Host, assert_code, json, text};

/// How often the command is ended while it makes a snapshot.
const KILLS: usize = 6;

#[test]
fn a_vm_is_paused_snapshotted_and_restored() {
    let Some(host) = Host::new() else { return };
    assert_code(&host.smolvm("-q vm create tiny --id one --mem 256", &[]), 0);
    assert_code(&host.smolvm("vm start one --boot-timeout 120", &[]), 0);
    assert_code(&host.smolvm("vm exec one -- sh -c", &["echo kept > /root/kept"]), 0);

    assert_code(&host.smolvm("vm pause one", &[]), 0);
    assert!(text(&host.smolvm("vm ls", &[]).stdout).contains("paused"));
    let output = host.smolvm("vm exec one -- true", &[]);
    assert_code(&output, 125);
    assert!(text(&output.stderr).contains("it is paused. Resume it first"));
    let output = host.smolvm("vm resume one --json", &[]);
    assert_code(&output, 0);
    assert_eq!(json(&output)["vms"][0]["ok"], true);

    let output = host.smolvm("vm snapshot one made --json", &[]);
    assert_code(&output, 0);
    let snapshot = &json(&output)["snapshot"];
    assert_eq!(snapshot["id"], "one");
    assert_eq!(snapshot["path"], host.site.home("made").to_str().unwrap());
    let digest = snapshot["digest"].as_str().unwrap().to_owned();
    let output = host.smolvm("vm snapshot one made", &[]);
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("is there already"));

    let output = host.smolvm("vm restore made --id two --timeout 120 --digest", &[&digest]);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "two\n");
    let output = host.smolvm("vm exec two -- sh -c", &["cat /root/kept; hostname"]);
    assert_eq!(text(&output.stdout), "kept\ntwo\n");
    let output = host.smolvm("vm inspect two --json", &[]);
    assert_eq!(
        (&json(&output)["vm"]["state"], &json(&output)["vm"]["detached"]),
        (&"running".into(), &true.into())
    );
    assert_code(&host.smolvm("vm rm two", &[]), 0);

    let output = host.smolvm("vm restore made --json --digest", &[&"0".repeat(64)]);
    assert_code(&output, 4);
    assert_eq!(json(&output)["error"]["kind"], "snapshot");
    assert_code(&host.smolvm("vm restore nowhere", &[]), 1);

    killed(&host);
    assert_code(&host.smolvm("vm rm one", &[]), 0);
    assert_eq!(host.left(), [""; 0]);
}

/// Behaviour 48: whoever is killed while a VM stands still for him, it goes on, and what he has
/// written by then is removed by the next one.
fn killed(host: &Host) {
    let mut numbers = Numbers::of_this_run();
    let directory = host.site.home("snapshots");
    fs_err::create_dir(&directory).unwrap();
    for number in 0..KILLS {
        let to = directory.join(number.to_string());
        let mut command = host.command("vm snapshot one", &[to.to_str().unwrap()]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moment = numbers.below(900);
        thread::sleep(Duration::from_millis(moment));
        let signal = if number % 3 == 2 { Signal::INT } else { Signal::KILL };
        let _ = kill_process(Pid::from_child(&child), signal);
        let ended = child.wait().unwrap();
        println!("after {moment} ms: {signal:?}, {ended}");
        let output = host.smolvm("vm exec one -- echo", &["on"]);
        assert_code(&output, 0);
        assert_eq!(text(&output.stdout), "on\n");
        assert!(text(&host.smolvm("vm ls", &[]).stdout).contains("running"));
        if to.exists() {
            // Then it is whole.
            assert!(to.join("snapshot.json").exists() && to.join("memory").exists());
            fs_err::remove_dir_all(&to).unwrap();
        }
    }
    let last = directory.join("last");
    assert_code(&host.smolvm("vm snapshot one", &[last.to_str().unwrap()]), 0);
    let names = fs_err::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["last"]);
}
