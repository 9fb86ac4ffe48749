//! Machines that stand still, and machines that go on from snapshots of others.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use smolvm_image::{CancelToken, Digest};
use smolvm_testkit::SmallDisk;
use smolvm_testkit::network::World;
use smolvm_vm::{
    Command, NetworkMode, RestoreConfig, SmolVm, Snapshot, SnapshotError, Vm, VmError, VmErrorKind,
    VmState,
};

use super::backend;
use super::images::{Image, Site, TINY};
use super::lifecycle::assert_gone;
use super::owner::Owner;

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
    for vm in &restored {
        assert_eq!(text(vm, "cat /root/file"), "before", "the disk is that of the snapshot");
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

#[test]
fn a_machine_that_is_paused_stands_still_until_it_is_resumed_or_ended() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let mut owner = Owner::start_apart(&image, &site);
    let id = owner.booted();
    let vm = site.vms().open(&id).unwrap();
    vm.run("true").unwrap();
    let address = vm.get_ip().unwrap();
    vm.pause().unwrap();
    vm.pause().unwrap();
    assert_eq!(site.vms().list().unwrap()[0].state, VmState::Paused);
    // Neither who has a session nor who has none waits for an answer that does not come.
    for vm in [&vm, &site.vms().open(&id).unwrap()] {
        assert_eq!((vm.status(), vm.info().state), (VmState::Paused, VmState::Paused));
        let error = vm.run("true").unwrap_err();
        assert!(matches!(error, VmError::NotRunning { state: VmState::Paused, .. }), "{error}");
        assert!(error.to_string().ends_with("it is paused. Resume it first"), "{error}");
        assert_eq!(vm.start().unwrap_err().kind(), VmErrorKind::State);
        assert_eq!(vm.get_ip().unwrap(), address);
    }
    // A snapshot of it is one like others, and it stays as it was.
    vm.snapshot(site.temp.path().join("paused")).unwrap();
    assert_eq!(vm.status(), VmState::Paused);

    site.vms().open(&id).unwrap().resume().unwrap();
    assert_eq!((vm.status(), text(&vm, "echo on")), (VmState::Running, "on".to_owned()));
    assert_has_the_time(&vm);
    vm.resume().unwrap();

    // It ends in order, which it could not do as it stands.
    text(&vm, "echo kept > /root/kept");
    vm.pause().unwrap();
    vm.stop_within(PATIENCE).unwrap();
    assert_eq!((vm.status(), vm.info().ended.as_deref()), (VmState::Stopped, Some("exit 0")));
    owner.kill();
    assert_gone(&site);
}

/// Behaviour 48: whatever the owner was about to do with it.
#[test]
fn a_paused_machine_ends_with_its_owner_and_by_name() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site).id("kept").unwrap().detached(true)).unwrap();
    let snapshot = vm.snapshot(site.temp.path().join("snapshot")).unwrap();
    vm.pause().unwrap();
    drop(vm);
    let vm = site.vms().open("kept").unwrap();
    assert_eq!(vm.status(), VmState::Paused);
    vm.delete().unwrap();
    assert_gone(&site);

    // One whose VMM is killed is not paused any more, and starts as others do.
    let vm = Vm::restore(&snapshot, config(&site).detached(true)).unwrap();
    vm.pause().unwrap();
    let process = i32::try_from(vm.info().process.unwrap()).unwrap();
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    while vm.status() == VmState::Paused {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(vm.status(), VmState::Stopped);
    vm.start_within(PATIENCE).unwrap();
    text(&vm, "true");
    vm.delete().unwrap();
    assert_gone(&site);
}

/// Changes a byte of a file that nobody is to write to.
fn damage(path: &Path, offset: u64) {
    fs_err::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    let file = fs_err::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.file().read_exact_at(&mut byte, offset).unwrap();
    file.file().write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn copy_of(snapshot: &Path, to: &Path) {
    let _ = fs_err::remove_dir_all(to);
    fs_err::create_dir(to).unwrap();
    for entry in fs_err::read_dir(snapshot).unwrap() {
        let from = entry.unwrap().path();
        fs_err::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}

/// Ends a machine whose snapshot is at `path`.
fn the_image_is_that_of_the_machine(vm: Vm, image: &Image, site: &Site, path: &Path) {
    let restore = |path: &Path| {
        let snapshot = Snapshot::open(path)?;
        Vm::restore(&snapshot, config(site)).map(drop)
    };
    // A snapshot is of the kernel that the machine runs on, not of one that lies there by now.
    let kernel = fs_err::read(image.kernel()).unwrap();
    fs_err::remove_file(image.kernel()).unwrap();
    fs_err::write(image.kernel(), &kernel).unwrap();
    damage(&image.kernel(), kernel.len() as u64 - 1);
    let of_another = site.temp.path().join("of-another");
    vm.snapshot(&of_another).unwrap();
    let error = restore(&of_another).unwrap_err();
    assert!(matches!(error, VmError::Snapshot(SnapshotError::ImageChanged { .. })), "{error}");
    damage(&image.kernel(), kernel.len() as u64 - 1);
    restore(&of_another).unwrap();

    // The image is not what it was: first another file of the same content, then another content.
    drop(vm);
    let rootfs = fs_err::read(image.rootfs()).unwrap();
    fs_err::remove_file(image.rootfs()).unwrap();
    fs_err::write(image.rootfs(), &rootfs).unwrap();
    restore(path).unwrap();
    damage(&image.rootfs(), rootfs.len() as u64 - 1);
    let error = restore(path).unwrap_err();
    assert!(matches!(error, VmError::Snapshot(SnapshotError::ImageChanged { .. })), "{error}");
}

#[test]
fn nothing_goes_on_from_what_is_not_a_whole_snapshot() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let image = image.copy(&site.temp.path().join("image"));
    let vm = Vm::boot(image.config(&site).id("whole").unwrap()).unwrap();
    let path = site.temp.path().join("snapshot");
    let snapshot = vm.snapshot(&path).unwrap();
    let restore = |path: &Path| {
        let snapshot = Snapshot::open(path)?;
        Vm::restore(&snapshot, config(&site)).map(drop)
    };

    let copy = site.temp.path().join("copy");
    let length = |name: &str| fs_err::metadata(path.join(name)).unwrap().len();
    let set_length = |name: &str, length: u64| {
        fs_err::set_permissions(copy.join(name), PermissionsExt::from_mode(0o600)).unwrap();
        fs_err::OpenOptions::new()
            .write(true)
            .open(copy.join(name))
            .unwrap()
            .set_len(length)
            .unwrap();
    };
    let disk = fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
    let disk =
        disk.filter_map(|name| name.into_string().ok()).find(|name| name.starts_with("disk"));
    let disk = disk.unwrap();
    let injuries: [(&str, &str, &dyn Fn()); 9] = [
        ("another digest", "memory", &|| damage(&copy.join("memory"), length("memory") / 2)),
        ("another digest", "memory", &|| damage(&copy.join("memory"), 9)),
        ("another digest", &disk, &|| damage(&copy.join(&disk), length(&disk) / 2)),
        ("bytes instead of", "memory", &|| set_length("memory", length("memory") - 1)),
        ("bytes instead of", &disk, &|| set_length(&disk, length(&disk) + 4096)),
        ("it is missing", "memory", &|| fs_err::remove_file(copy.join("memory")).unwrap()),
        ("", "snapshot.json", &|| damage(&copy.join("snapshot.json"), length("snapshot.json") / 2)),
        ("EOF", "snapshot.json", &|| set_length("snapshot.json", 100)),
        ("another one", "snapshot.json", &|| {
            let record = copy.join("snapshot.json");
            let text = fs_err::read_to_string(&record).unwrap();
            let text = text.replace("\"mem_size_mib\": 512", "\"mem_size_mib\": 640");
            fs_err::remove_file(&record).unwrap();
            fs_err::write(&record, text).unwrap();
        }),
    ];
    for (reason, name, injure) in injuries {
        copy_of(&path, &copy);
        injure();
        let error = restore(&copy).unwrap_err();
        println!("{error}");
        assert_eq!(error.kind(), VmErrorKind::Snapshot);
        let VmError::Snapshot(SnapshotError::Damaged { path, reason: found }) = &error else {
            panic!("{error}");
        };
        assert_eq!(path, &copy.join(name));
        assert!(found.contains(reason), "{error}");
        assert!(error.to_string().contains("make the snapshot anew"), "{error}");
        assert_eq!(site.left(), ["whole"]);
    }
    // A copy that is whole is as good, wherever it is; and another one is not.
    copy_of(&path, &copy);
    restore(&copy).unwrap();
    let other = config(&site).digest(Digest::of(b"another"));
    let error = Vm::restore(&snapshot, other).unwrap_err();
    assert!(matches!(error, VmError::Snapshot(SnapshotError::Damaged { .. })), "{error}");
    let known = config(&site).digest(snapshot.digest());
    Vm::restore(&snapshot, known).unwrap();
    let error = restore(&site.temp.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, VmError::Snapshot(SnapshotError::NotFound { .. })), "{error}");
    let taken = config(&site).id("whole").unwrap();
    let error = Vm::restore(&snapshot, taken).unwrap_err();
    assert!(matches!(error, VmError::AlreadyExists { .. }), "{error}");

    // Without new random numbers there is no machine: it is given some before anything else. That
    // they differ is shown where they are made, as a guest's own would differ soon in any case.
    text(&vm, "mv /dev/urandom /dev/old");
    let unsafe_one = vm.snapshot(site.temp.path().join("unsafe")).unwrap();
    text(&vm, "mv /dev/old /dev/urandom");
    let error = Vm::restore(&unsafe_one, config(&site)).unwrap_err();
    assert!(error.to_string().contains("random numbers stay as they are"), "{error}");
    assert_eq!(site.left(), ["whole"]);

    // What is in the way, or does not fit, leaves nothing, and the machine goes on.
    let error = vm.snapshot(&path).unwrap_err();
    assert!(matches!(error, VmError::Snapshot(SnapshotError::Exists { .. })), "{error}");
    let cancel = CancelToken::new();
    cancel.cancel();
    let error = vm.cancelled_by(&cancel).snapshot(site.temp.path().join("no")).unwrap_err();
    assert_eq!(error.kind(), VmErrorKind::Cancelled);
    if let Some(small) = SmallDisk::new(16 << 20) {
        let error = vm.snapshot(small.path().join("large")).unwrap_err();
        assert!(matches!(error, VmError::Snapshot(SnapshotError::StorageFull { .. })), "{error}");
        assert_eq!(fs_err::read_dir(small.path()).unwrap().count(), 0);
    }
    assert_eq!((vm.status(), text(&vm, "echo on")), (VmState::Running, "on".to_owned()));

    the_image_is_that_of_the_machine(vm, &image, &site, &path);
    assert_gone(&site);
}

/// Machines of one snapshot in one network of this host's, where no two may be called alike.
#[test]
fn machines_of_one_snapshot_have_addresses_of_their_own() {
    let Some(image) = Image::find(TINY) else { return };
    let Some(world) = World::new() else { return };
    world.host.forward();
    let site = Site::new();
    let vm = image.config(&site).id("first").unwrap().mem_size_mib(192).network(NetworkMode::Tap);
    let vm = world.host.within(|| backend::boot(vm)).unwrap();
    let snapshot = vm.snapshot(site.temp.path().join("snapshot")).unwrap();
    let restore = |id| {
        let config = config(&site).id(id).unwrap();
        world.host.within(|| Vm::restore(&snapshot, config)).unwrap()
    };
    let vms = [vm, restore("second"), restore("third")];
    let mut addresses = BTreeSet::new();
    for vm in &vms {
        let address = vm.get_ip().unwrap();
        assert!(addresses.insert(address), "{addresses:?} and {address}");
        let line = "ip -4 -o addr show dev eth0 | sed 's/.*inet \\([^/]*\\).*/\\1/'; hostname";
        assert_eq!(text(vm, line), format!("{address}\n{}", vm.id()), "the old address is gone");
        // It is reached by it, and by no other.
        text(vm, "(echo here; hostname) | nc -l -p 1234 > /dev/null 2>&1 & sleep 0.2");
        let heard = world.host.within(|| heard_at((address, 1234)));
        assert_eq!(heard, format!("here\n{}\n", vm.id()));
    }
    drop(vms);
    assert_gone(&site);
    let _ = fs_err::remove_dir_all(format!("/run/smolvm/tap/{}", world.host.number()));
}

/// What somebody says who listens at this address.
fn heard_at(address: (IpAddr, u16)) -> String {
    let mut heard = String::new();
    let connected = TcpStream::connect_timeout(&address.into(), PATIENCE);
    connected.unwrap().read_to_string(&mut heard).unwrap();
    heard
}
