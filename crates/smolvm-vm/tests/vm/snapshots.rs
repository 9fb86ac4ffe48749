//! Machines that stand still, and machines that go on from snapshots of others.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, SystemTime};

use smolvm_vm::{Command, RestoreConfig, SmolVm, Snapshot, Vm, VmError, VmState};

use super::images::{Image, Site, TINY};
use super::lifecycle::assert_gone;

/// Generous: nothing is shown by how long it takes.
const PATIENCE: Duration = Duration::from_mins(2);

fn config(site: &Site) -> RestoreConfig {
    RestoreConfig::new().vms_dir(site.vms_dir()).timeout(PATIENCE)
}

fn text(vm: &SmolVm, line: &str) -> String {
    let result = vm.run(Command::shell(line).timeout(PATIENCE)).unwrap();
    assert!(result.ok(), "{line}: {result:?}");
    result.stdout().trim().to_owned()
}

/// The bytes that a machine's kernel makes next.
const RANDOM: &str = "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'";

/// Whether the guest's clock is that of this host, within what a busy host takes.
fn assert_has_the_time(vm: &SmolVm) {
    let guest: u64 = text(vm, "date +%s").parse().unwrap();
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(here.abs_diff(guest) < 60, "the guest's clock says {guest}, this host's {here}");
}

/// Behaviours of issue 5: what goes on from a snapshot is a machine of its own.
#[test]
fn machines_of_one_snapshot_go_on_each_by_itself() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let digest = image.rootfs_digest();
    let vm = Vm::boot(image.config(&site).id("first").unwrap().mem_size_mib(256)).unwrap();
    text(&vm, "echo before > /root/file");
    text(&vm, "sleep 12345 > /dev/null 2>&1 < /dev/null &");
    let listening = vm.popen("exec sleep 54321").unwrap();
    // In a guest that was not told the time, it would be this one.
    text(&vm, "date -s @1000000000");

    let path = site.temp.path().join("snapshot");
    let snapshot = vm.snapshot(&path).unwrap();
    let mode = |name| fs_err::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("memory"), mode("snapshot.json")), (0o700, 0o400, 0o400));
    // What is zero takes no room.
    let memory = fs_err::metadata(path.join("memory")).unwrap().len();
    assert!(memory < 200 << 20, "{memory} bytes of 256 MiB");
    assert_eq!(
        (snapshot.id(), Snapshot::open(&path).unwrap().digest()),
        ("first", snapshot.digest())
    );

    // The machine itself has gone on, with all that was asked of it.
    assert_eq!(vm.status(), VmState::Running);
    assert_eq!(text(&vm, "cat /root/file; ps | grep -c '[s]leep 12345'"), "before\n1");
    assert!(listening.try_wait().unwrap().is_none());
    assert_has_the_time(&vm);
    text(&vm, "echo after > /root/file; sync");

    let restored: Vec<Vm> = thread::scope(|scope| {
        let restoring: Vec<_> = ["second", "third"]
            .map(|id| {
                let config = config(&site).id(id).unwrap().env("NAME", id);
                let snapshot = &snapshot;
                scope.spawn(move || Vm::restore(snapshot, config).unwrap())
            })
            .into();
        restoring.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut random = BTreeSet::from([text(&vm, RANDOM)]);
    for vm in &restored {
        assert_eq!(text(vm, "cat /root/file"), "before", "the disk is that of the snapshot");
        assert!(random.insert(text(vm, RANDOM)), "{random:?}");
        assert_has_the_time(vm);
        assert_eq!(text(vm, "hostname; echo $NAME"), format!("{0}\n{0}", vm.id()));
        let address = vm.get_ip().unwrap();
        assert!(text(vm, "ip addr show up").contains(&format!("inet {address}/")));
        // What ran goes on; but not what somebody waited for, who is not there.
        assert_eq!(
            text(vm, "ps | grep -c '[s]leep 12345'; ps | grep -c '[s]leep 54321' || true"),
            "1\n0"
        );
        text(vm, &format!("echo {} > /root/own; sync", vm.id()));
    }
    for vm in &restored {
        assert_eq!(text(vm, "cat /root/own"), vm.id());
    }
    assert_eq!(text(&vm, "ls /root"), "file");
    assert!(listening.try_wait().unwrap().is_none());

    // It is a machine like others, which boots from its disk; and can be snapshotted itself.
    let second = &restored[0];
    second.stop().unwrap();
    second.start_within(PATIENCE).unwrap();
    assert_eq!(text(second, "cat /root/file /root/own"), "before\nsecond");
    let list = site.vms().list().unwrap();
    assert_eq!(list.iter().filter(|info| info.state == VmState::Running).count(), 3);
    let again = restored[1].snapshot(site.temp.path().join("again")).unwrap();
    let fourth = Vm::restore(&again, config(&site).id("fourth").unwrap()).unwrap();
    assert_eq!(text(&fourth, "cat /root/own; hostname"), "third\nfourth");

    drop((listening, vm, restored, fourth));
    assert_gone(&site);
    assert_eq!(image.rootfs_digest(), digest);
}
