//! `smolvm run`, `vm` and `doctor` with real guests: streams, exit codes, and what is left.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use smolvm_testkit::content::noise;
use smolvm_testkit::skip;

use crate::site::Site;

/// How long a test looks for what has to happen before it fails.
const PATIENCE: Duration = Duration::from_mins(2);

/// A home whose registry names the image `tiny`, which boots.
pub(crate) struct Host {
    pub(crate) site: Site,
}

impl Host {
    /// `None`, said aloud, where there is no image to boot.
    pub(crate) fn new() -> Option<Self> {
        let Some(images) = std::env::var_os("SMOLVM_TEST_IMAGES") else {
            skip("SMOLVM_TEST_IMAGES names no directory with images");
            return None;
        };
        let image = PathBuf::from(images).join("debian-tiny");
        if !image.join("rootfs.ext4").is_file() {
            skip("SMOLVM_TEST_IMAGES has no debian-tiny; `cargo xtask images` makes it");
            return None;
        }
        let assets = [("kernel", "vmlinuz"), ("initrd", "initrd.img"), ("rootfs", "rootfs.ext4")];
        let urls = assets.map(|(kind, file)| {
            format!("{kind}_url = \"file://{}\"\n", image.join(file).display())
        });
        let site = Site::new();
        site.append_to_registry(&format!("[images.tiny]\n{}", urls.concat()));
        Some(Self { site })
    }

    /// The binary with a cache and VMs of its own; the words of `line`, then `rest`.
    pub(crate) fn command<'a>(&self, line: &'a str, rest: &[&'a str]) -> Command {
        let words = line.split_whitespace().chain(rest.iter().copied());
        let mut command = self.site.command(words);
        command.env("SMOLVM_CACHE_DIR", self.site.home("cache"));
        command.env("SMOLVM_VMS_DIR", self.vms()).env("SMOLVM_ACCEL", "tcg");
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    fn vms(&self) -> PathBuf {
        self.site.home("vms")
    }

    pub(crate) fn smolvm(&self, line: &str, rest: &[&str]) -> Output {
        self.command(line, rest).output().unwrap()
    }

    /// Runs the binary with `input` on its standard input.
    fn fed(&self, line: &str, rest: &[&str], input: Vec<u8>) -> Output {
        let mut command = self.command(line, rest);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        output
    }

    /// The names of the directories of VMs.
    pub(crate) fn left(&self) -> Vec<String> {
        let Ok(entries) = fs_err::read_dir(self.vms()) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }
}

impl Drop for Host {
    /// A VM of a test that failed would outlive it.
    fn drop(&mut self) {
        for id in self.left() {
            let _ = self.smolvm("vm rm", &[&id]);
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until `done`, and fails when that does not come.
#[track_caller]
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come about");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn run_prints_what_the_command_prints() {
    let Some(host) = Host::new() else { return };
    let output = host.smolvm("run tiny -- echo hi", &[]);
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "hi\n");
    assert_eq!(host.left(), [""; 0]);
}

#[test]
fn run_passes_streams_options_and_the_exit_code_on() {
    let Some(host) = Host::new() else { return };
    let input = noise(3, 1 << 20);
    let script = "cat; echo \"$A $(pwd) $(id -u):$(id -g)\" >&2; exit 3";
    let line = "run tiny --env A=b --workdir /tmp --user 1000:1001 -- sh -c";
    let output = host.fed(line, &[script], input.clone());
    assert_code(&output, 3);
    assert!(output.stdout == input, "{} bytes came back, or others", output.stdout.len());
    let stderr = text(&output.stderr);
    assert!(stderr.lines().any(|line| line == "b /tmp 1000:1001"), "{stderr}");
    assert_eq!(host.left(), [""; 0]);
}

#[test]
fn run_kills_a_command_that_takes_too_long() {
    let Some(host) = Host::new() else { return };
    assert_code(&host.smolvm("run tiny --timeout 1 -- sleep 1000", &[]), 124);
    assert_eq!(host.left(), [""; 0]);
}

#[test]
fn run_prints_one_object() {
    let Some(host) = Host::new() else { return };
    let output = host.smolvm("run tiny --json -- sh -c", &["echo out; echo err >&2; kill -9 $$"]);
    assert_code(&output, 137);
    let object = json(&output);
    assert_eq!(object["exit_code"], -9);
    assert_eq!(object["signal"], 9);
    assert_eq!(object["stdout"], "out\n");
    assert_eq!(object["stderr"], "err\n");
    assert!(object["duration_ms"].is_u64(), "{object}");
    assert_eq!(host.left(), [""; 0]);
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let Some(host) = Host::new() else { return };
    let mut command = host.command("run tiny -- sh -c", &["echo started; exec sleep 1000"]);
    command.stdout(fs_err::File::create(host.site.home("out")).unwrap().into_parts().0);
    let mut child = command.spawn().unwrap();
    let started = || fs_err::read_to_string(host.site.home("out")).unwrap() == "started\n";
    eventually("the command", started);
    assert_eq!(host.left().len(), 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // The command in the guest got the signal, and its end is what is passed on.
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(host.left(), [""; 0]);
}

#[test]
fn failures_of_run_itself_are_not_taken_for_those_of_the_command() {
    let Some(host) = Host::new() else { return };
    let output = host.smolvm("run no-such-image -- true", &[]);
    assert_code(&output, 125);
    assert!(text(&output.stderr).contains("Unknown image: 'no-such-image'"));
    assert_code(&host.smolvm("vm exec no-such-vm -- true", &[]), 125);
}

/// What is wrong with a command line has one exit code, whoever finds it.
#[test]
fn a_command_line_that_cannot_be_obeyed_is_a_usage_error_of_run_too() {
    let Some(host) = Host::new() else { return };
    assert_code(&host.smolvm("run tiny --env SMOLVM_NOT_SET -- true", &[]), 2);
    assert_code(&host.smolvm("run tiny --nonsense -- true", &[]), 2);
    assert_code(&host.smolvm("run ../etc -- true", &[]), 2);
    assert_code(&host.smolvm("vm exec one --env =x -- true", &[]), 2);
}

/// Standard input goes to the command whether its output is captured or not.
#[test]
fn run_with_json_passes_standard_input_on() {
    let Some(host) = Host::new() else { return };
    let output = host.fed("run tiny --json -- cat", &[], b"one\ntwo\n".to_vec());
    assert_code(&output, 0);
    assert_eq!(json(&output)["stdout"], "one\ntwo\n");
}

/// Behaviour 33: an image of which a VM was made is neither removed nor pruned, and who tries
/// hears of the VM.
#[test]
fn the_image_of_a_vm_stays_until_the_vm_goes() {
    let Some(host) = Host::new() else { return };
    assert_code(&host.smolvm("vm create tiny --id one", &[]), 0);
    let refused = host.smolvm("image rm tiny", &[]);
    assert_code(&refused, 1);
    let message = text(&refused.stderr);
    assert!(message.contains("'tiny' is in use by"), "{message}");
    assert!(message.contains(&host.vms().join("one").display().to_string()), "{message}");
    assert!(message.contains("VMs made of it: one (created)"), "{message}");
    let refused = json(&host.smolvm("image rm tiny --json", &[]));
    assert_eq!(refused["images"][0]["error"]["kind"], "in-use");

    let pruned = json(&host.smolvm("image prune --max-size 0 --json", &[]));
    assert_eq!((&pruned["in_use"][0], &pruned["items"][0]), (&"tiny".into(), &Value::Null));
    assert!(pruned["left_bytes"].as_u64().unwrap() > 1 << 20, "{pruned}");
    let pruned = text(&host.smolvm("image prune --max-size 0", &[]).stdout);
    assert!(pruned.contains("tiny is in use and stays\n"), "{pruned}");
    assert!(pruned.contains("are left, more than was asked for"), "{pruned}");

    assert_code(&host.smolvm("vm rm one", &[]), 0);
    let pruned = json(&host.smolvm("image prune --max-size 0 --json", &[]));
    let whats: Vec<_> =
        pruned["items"].as_array().unwrap().iter().map(|item| &item["what"]).collect();
    assert_eq!(whats, ["temporary", "least-recently-used-image"], "{pruned}");
    assert_code(&host.smolvm("image rm tiny", &[]), 0);

    assert_code(&host.smolvm("vm create tiny --id two", &[]), 0);
    assert_code(&host.smolvm("image rm --force tiny", &[]), 0);
    assert_code(&host.smolvm("vm rm two", &[]), 0);
}

/// One VM from its making to its end, with the commands that are about it.
#[test]
fn life_of_a_vm() {
    let Some(host) = Host::new() else { return };
    let output = host.smolvm("vm create tiny --id one --json", &[]);
    assert_code(&output, 0);
    assert_eq!(json(&output)["vm"]["state"], "created");
    let again = host.smolvm("vm create tiny --id one --json", &[]);
    assert_code(&again, 1);
    assert_eq!(json(&again)["error"]["kind"], "vm-exists");
    assert_code(&host.smolvm("vm exec one -- true", &[]), 125);

    let started = host.smolvm("vm start one", &[]);
    assert_code(&started, 0);
    assert_eq!(text(&started.stdout), "one\n");
    shown(&host);
    commands(&host);
    copies(&host);

    let stopped = host.smolvm("vm stop one --json", &[]);
    assert_code(&stopped, 0);
    assert_eq!(json(&stopped)["vms"][0]["ok"], true);
    assert_eq!(json(&host.smolvm("vm inspect one --json", &[]))["vm"]["state"], "stopped");

    assert_code(&host.smolvm("vm start one", &[]), 0);
    let kept = host.smolvm("vm exec one -- cat /root/kept", &[]);
    assert_eq!(text(&kept.stdout), "kept\n", "{}", text(&kept.stderr));

    pruned(&host);
    assert_code(&host.smolvm("vm inspect one", &[]), 6);
}

/// A VM goes when it is stopped and was so for as long as is asked for.
fn pruned(host: &Host) {
    let prune = |options: &str| {
        let object = json(&host.smolvm(&format!("vm prune --json {options}"), &[]));
        let items = object["items"].as_array().unwrap().clone();
        assert_eq!(object["freed_bytes"].as_u64().unwrap() > 0, !items.is_empty(), "{object}");
        items
    };
    assert!(prune("--older-than 0s").is_empty(), "it runs");
    assert_code(&host.smolvm("vm stop one", &[]), 0);
    // Its supervisor is on its way out.
    eventually("it is found", || !prune("--dry-run --older-than 0s").is_empty());
    assert!(prune("--older-than 1h").is_empty());
    assert!(prune("").is_empty());
    assert_eq!(host.left(), ["one"]);
    let items = prune("--older-than 0s");
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["what"], "stopped");
    assert!(items[0]["path"].as_str().unwrap().ends_with("/vms/one"), "{items:?}");
    assert_eq!(host.left(), [""; 0]);
    let nothing = host.smolvm("vm prune --older-than 0s", &[]);
    assert_eq!(text(&nothing.stdout), "nothing to prune\n");
}

/// What `ls`, `inspect` and `logs` say of the running VM.
fn shown(host: &Host) {
    let list = text(&host.smolvm("vm ls", &[]).stdout);
    let row: Vec<_> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[row.len() - 1]), ("one", "running", "tiny"), "{list}");
    let listed = json(&host.smolvm("vm ls --json", &[]));
    let inspected = json(&host.smolvm("vm inspect one --json", &[]));
    assert_eq!(listed["vms"][0], inspected["vm"]);
    assert_eq!(inspected["vm"]["state"], "running");
    assert!(inspected["vm"]["process"].is_u64(), "{inspected}");
    let inspected = text(&host.smolvm("vm inspect one", &[]).stdout);
    assert!(inspected.contains("state      running\n"), "{inspected}");
    // The image's init runs beside the agent, and may greet after the first command was run.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let logs = text(&host.smolvm("vm logs one", &[]).stdout);
        if logs.contains("Hello from SmolVM!") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{logs}");
    }
    let logs = json(&host.smolvm("vm logs one --json", &[]));
    assert!(logs["console"].as_str().unwrap().contains("Hello from SmolVM!"), "{logs}");
}

/// The exit codes of `exec`.
fn commands(host: &Host) {
    assert_code(&host.smolvm("vm exec one -- sh -c", &["exit 3"]), 3);
    assert_code(&host.smolvm("vm exec one -- sh -c", &["kill -9 $$"]), 137);
    assert_code(&host.smolvm("vm exec one -- /no/such", &[]), 127);
    assert_code(&host.smolvm("vm exec one -- /etc", &[]), 126);
    assert_code(&host.smolvm("vm exec one --timeout 1 -- sleep 1000", &[]), 124);
    let late = host.smolvm("vm exec one --timeout 1 --json -- sleep 1000", &[]);
    assert_code(&late, 124);
    assert_eq!(json(&late)["error"]["kind"], "timeout");
    let script = "mkdir -p /root; echo kept >/root/kept; sync";
    assert_code(&host.smolvm("vm exec one -- sh -c", &[script]), 0);
}

/// A file goes into the VM and comes out as it was.
fn copies(host: &Host) {
    let content = noise(4, 300_000);
    let [here, back] = ["here", "back"].map(|name| host.site.home(name));
    fs_err::write(&here, &content).unwrap();
    assert_code(&host.smolvm("vm cp here one:/tmp/there", &[]), 0);
    let copied = host.smolvm("vm cp --json one:/tmp/there back", &[]);
    assert_code(&copied, 0);
    assert_eq!(json(&copied)["id"], "one");
    assert!(fs_err::read(back).unwrap() == content, "other bytes came back");
    assert_code(&host.smolvm("vm cp here back", &[]), 2);
}

#[test]
fn an_unknown_vm_has_a_code_of_its_own() {
    let site = Site::new();
    for line in ["vm inspect no", "vm start no", "vm stop no", "vm rm no", "vm logs no"] {
        let finished = site.run(line);
        assert_eq!(finished.code, Some(6), "{line}: {finished}");
        assert!(finished.stderr.contains("there is no VM 'no'"), "{line}: {finished}");
        let object: Value =
            serde_json::from_str(&site.run(&format!("{line} --json")).stdout).unwrap();
        assert_eq!(object["error"]["kind"], "unknown-vm", "{line}");
    }
}

#[test]
fn doctor_finds_nothing_missing_where_guests_boot() {
    let Some(host) = Host::new() else { return };
    let output = host.smolvm("doctor", &[]);
    assert_code(&output, 0);
    let object = json(&host.smolvm("doctor --json", &[]));
    let checks = object["checks"].as_array().unwrap();
    let qemu = checks.iter().find(|check| check["what"] == "QEMU").unwrap();
    assert_eq!(qemu["status"], "good");
    assert!(checks.iter().all(|check| check["status"] != "missing"), "{object}");
    for (what, found) in [("image disk", " images take "), ("VM disk", " VMs take ")] {
        let disk = checks.iter().find(|check| check["what"] == what).unwrap();
        let text = disk["found"].as_str().unwrap();
        assert!(text.contains("iB are free in ") && text.contains(found), "{text}");
    }
    let lines = text(&output.stdout);
    assert!(checks.iter().all(|check| lines.contains(check["what"].as_str().unwrap())), "{lines}");
}

#[test]
fn doctor_names_the_package_that_is_missing() {
    let site = Site::new();
    let doctor = |line: &str| {
        let mut command = site.command(line.split_whitespace());
        site.finish(command.env("SMOLVM_QEMU", "/no/such"))
    };
    let finished = doctor("doctor");
    assert_eq!(finished.code, Some(1), "{finished}");
    assert!(finished.stdout.contains("there is no /no/such"), "{finished}");
    assert!(finished.stdout.contains("qemu-system-x86"), "{finished}");
    let object: Value = serde_json::from_str(&doctor("doctor --json").stdout).unwrap();
    assert_eq!(object["error"]["kind"], "host");
}
