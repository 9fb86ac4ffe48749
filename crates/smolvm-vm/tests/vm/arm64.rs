//! A guest for another processor than this host's.

use std::time::Duration;

use smolvm_testkit::network::{SOMEBODY, World};
use smolvm_testkit::{content, skip_unless_offered};
use smolvm_vm::{Command, SmolVm, VmState};

use super::images::{ARM64, Image, Site};
use super::lifecycle::assert_gone;

/// Long, since nothing is shown by how long it takes.
const BOOT: Duration = Duration::from_mins(3);
const STOP: Duration = Duration::from_mins(1);

/// A minimal Debian for arm64 under QEMU's machine `virt`: commands, copies, a network, an end in
/// order. One machine, since it is slow to boot where it is emulated.
#[test]
fn a_guest_for_arm64_does_what_others_do() {
    let Some(image) = Image::find(ARM64) else { return };
    if smolvm_agent::program_for("aarch64").is_none() {
        return skip_unless_offered(
            "SMOLVM_TEST_NO_ARM64",
            "no agent for aarch64: rustup target add aarch64-unknown-linux-musl",
        );
    }
    let Some(world) = World::new() else { return };
    let servers = world.internet.servers();
    let before = image.rootfs_digest();
    let site = Site::new();
    let vm = world.host.within(|| SmolVm::new(image.config(&site))).unwrap();
    vm.start_within(BOOT).unwrap();

    let run = |line: &str| {
        let result = vm.run(Command::shell(line).timeout(Duration::from_mins(1))).unwrap();
        assert!(result.ok(), "{line}: {result:?}");
        result.stdout().trim().to_owned()
    };
    assert_eq!(run("uname -m"), "aarch64");
    assert_eq!(
        run("dpkg --print-architecture; id -un; hostname"),
        format!("arm64\nroot\n{}", vm.id())
    );
    assert_eq!(run("yes | head -c 1000000 | wc -c"), "1000000");
    let failed =
        vm.run(Command::new("sh").arg("-c").arg("read x; echo $x >&2; exit 3").stdin("in\n"));
    let failed = failed.unwrap();
    assert_eq!((failed.exit_code, failed.stderr().as_ref()), (3, "in\n"));
    let somebody = vm.run(Command::shell("id -u; pwd").user("nobody").cwd("/var")).unwrap();
    assert_eq!(somebody.stdout(), "65534\n/var\n");

    // Random, so that no page of it is what another one holds.
    let noise = content::noise(11, 1 << 20);
    let (sent, back) = (site.temp.path().join("tree"), site.temp.path().join("back"));
    fs_err::create_dir(&sent).unwrap();
    fs_err::write(sent.join("noise"), &noise).unwrap();
    std::os::unix::fs::symlink("noise", sent.join("link")).unwrap();
    vm.copy_to(&sent, "/root/tree").unwrap();
    assert_eq!(run("sha256sum < /root/tree/link"), format!("{}  -", content::sha256_hex(&noise)));
    vm.copy_from("/root/tree", &back).unwrap();
    assert_eq!(fs_err::read(back.join("noise")).unwrap(), noise);

    let address = vm.get_ip().unwrap().to_string();
    assert!(run("cat /proc/net/fib_trie").contains(&address));
    run(&format!("exec bash -c ': > /dev/tcp/{SOMEBODY}/8080'"));
    servers.expect_connection();

    vm.stop_within(STOP).unwrap();
    assert_eq!(vm.status(), VmState::Stopped);
    let console = String::from_utf8_lossy(&vm.console_log()).into_owned();
    assert!(console.contains("reboot: "), "{console}");
    vm.delete().unwrap();
    drop(vm);
    assert_gone(&site);
    assert_eq!(image.rootfs_digest(), before);
}
