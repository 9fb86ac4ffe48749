//! Alpine as its makers leave it: their kernel, which unpacks no modules, musl, busybox, `OpenRC`.

use std::time::Duration;

use smolvm_vm::{Command, NetworkMode, SmolVm};

use super::images::{ALPINE, Image, Site};
use super::lifecycle::assert_gone;

/// Long, since nothing is shown by how long it takes.
const BOOT: Duration = Duration::from_mins(2);

/// The distribution, and how a command of its shell ends, as another user too. (`OpenRC` takes its
/// time where it is emulated: it is not waited for.)
#[test]
fn alpine_runs_commands() {
    let Some(image) = Image::find(ALPINE) else { return };
    let site = Site::new();
    let vm = SmolVm::new(image.config(&site).network(NetworkMode::None)).unwrap();
    vm.start_within(BOOT).unwrap();
    let run = |line: &str| vm.run(Command::shell(line).timeout(Duration::from_mins(1))).unwrap();

    let release = run("cat /etc/alpine-release; uname -r");
    assert!(release.stdout().starts_with("3.23."), "{release:?}");
    assert!(release.stdout().ends_with("-virt\n"), "{release:?}");
    let system = run("ls /lib/ld-musl-*; readlink /bin/sh; cat /proc/1/comm; id -un guest");
    let expected = "/lib/ld-musl-x86_64.so.1\n/bin/busybox\ninit\nguest\n";
    assert_eq!((system.exit_code, system.stdout().as_ref()), (0, expected), "{system:?}");
    let failed = run("read x; echo no >&2; exit 3");
    assert_eq!((failed.exit_code, failed.stderr().as_ref()), (3, "no\n"));
    let guest = vm.run(Command::shell("id -u; echo 'a b'").user("guest").cwd("/tmp")).unwrap();
    assert_eq!(guest.stdout(), "405\na b\n");

    vm.delete().unwrap();
    drop(vm);
    assert_gone(&site);
}
