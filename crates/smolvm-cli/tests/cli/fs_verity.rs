//! fs-verity for real: in a guest whose kernel has it, on file systems that have it. What runs in
//! it is the command, and this test binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as HostCommand;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use smolvm::{
    BackendChoice, Command, CommandResult, Event, FetchOptions, ImageManager, ImageManagerBuilder,
    ImageSource, NetworkMode, Registry, VerifyPolicy, Vm, VmConfig,
};
use smolvm_testkit::content::{noise, sha256_hex};
use smolvm_testkit::{Furnished, named_directory, skip};

/// An emulated guest, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(3);

/// Where the image lies that is fetched in the guest.
const SERVED: &str = "/opt/served";

/// The files of it, by their names in the cache.
const FILES: [&str; 2] = ["vmlinux.bin", "rootfs.ext4"];

/// A guest with ext4 and Btrfs under `/mnt`.
struct Guest {
    vm: Vm,
    _here: tempfile::TempDir,
}

impl Guest {
    fn boot() -> Option<Self> {
        let image = named_directory("SMOLVM_TEST_IMAGES")?.join("debian-systemd");
        if !image.join("rootfs.ext4").is_file() {
            skip("SMOLVM_TEST_IMAGES has no debian-systemd; only root can make it");
            return None;
        }
        let temp = tempfile::tempdir().unwrap();
        let here = temp.path();
        let rootfs = image.join("rootfs.ext4");
        let mut disk = Furnished::new(&rootfs, &here.join("disk"), "1G");
        disk.program(&std::env::current_exe().unwrap(), "/opt/test");
        disk.program(env!("CARGO_BIN_EXE_smolvm").as_ref(), "/usr/local/bin/smolvm");
        disk.directory(SERVED);
        let mut registry = "[images.hello]\n".to_owned();
        for (kind, file, bytes) in
            [("kernel", FILES[0], noise(1, 70_001)), ("rootfs", FILES[1], noise(2, 300_007))]
        {
            fs_err::write(here.join(file), &bytes).unwrap();
            disk.file(&here.join(file), &format!("{SERVED}/{file}"));
            let pin = sha256_hex(&bytes);
            let _ = writeln!(registry, "{kind}_url = \"file://{SERVED}/{file}\"");
            let _ = writeln!(registry, "{kind}_sha256 = \"{pin}\"");
        }
        fs_err::write(here.join("registry.toml"), registry).unwrap();
        disk.file(&here.join("registry.toml"), "/opt/registry.toml");
        // There is no program in the guest that makes one.
        let btrfs = here.join("btrfs");
        fs_err::File::create(&btrfs).unwrap().set_len(128 << 20).unwrap();
        assert!(HostCommand::new("mkfs.btrfs").arg("-q").arg(&btrfs).status().unwrap().success());
        disk.file(&btrfs, "/opt/btrfs");

        let config = VmConfig::new(image.join("vmlinuz"), disk.finish())
            .backend(BackendChoice::Qemu)
            .mem_size_mib(512)
            .network(NetworkMode::None)
            .env("SMOLVM_REGISTRY", "/opt/registry.toml")
            .vms_dir(here.join("vms"));
        let guest = Self { vm: Vm::boot_within(config, PATIENCE).unwrap(), _here: temp };
        guest.good(
            "modprobe -a loop btrfs; mkdir /mnt/ext4 /mnt/btrfs; truncate -s 32M /opt/ext4; \
             mkfs.ext4 -q -b 4096 -O verity /opt/ext4 && mount -o loop /opt/ext4 /mnt/ext4 && \
             mount -o loop /opt/btrfs /mnt/btrfs",
        );
        Some(guest)
    }

    /// What a line that succeeds prints on either stream.
    fn good(&self, line: &str) -> String {
        let result: CommandResult = self.vm.run(Command::shell(line).timeout(PATIENCE)).unwrap();
        assert!(result.ok(), "{line}: {result:?}");
        format!("{}{}", result.stdout(), result.stderr())
    }
}

#[test]
fn fs_verity_protects_cached_files_in_a_guest_that_has_it() {
    let Some(guest) = Guest::boot() else { return };

    // For a user, whose files have a mode that lets nobody write to them.
    guest.good("install -d -o 1000 /mnt/ext4/user");
    let user = "setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/mnt/ext4/user";
    let pull = "smolvm --fs-verity --verify changed image pull hello";
    guest.good(&format!("{user} {pull}"));
    let cached = "/mnt/ext4/user/.smolvm/images/hello";
    let marked = guest.good(&format!("lsattr {cached}/{} {cached}/{}", FILES[0], FILES[1]));
    assert_eq!(marked.matches('V').count(), 2, "{marked}");
    let modes = guest.good(&format!("stat -c %a {cached}/{} {cached}/{}", FILES[0], FILES[1]));
    assert_eq!(modes, "400\n400\n");
    guest.good(&format!("! sh -c ': >> {cached}/{}'", FILES[0]));
    assert_eq!(guest.good(&format!("grep -o verity {cached}/.verified-1000.json | wc -l")), "2\n");

    // Another user's stamps count for them as well: the owner cannot change them either.
    guest
        .good("smolvm --cache-dir /mnt/ext4/user/.smolvm/images --verify changed image pull hello");
    assert_eq!(guest.good(&format!("grep -o verity {cached}/.verified-0.json | wc -l")), "2\n");

    // Where there is none, nothing is said about it.
    guest.good(&format!("SMOLVM_CACHE_DIR=/dev/shm/cache {pull} > /opt/said 2>&1"));
    assert!(!guest.good("cat /opt/said").contains("verity"));

    let tests = ["fs_verity::in_the_guest_on_ext4", "fs_verity::in_the_guest_on_btrfs"];
    let said = guest.good(&format!(
        "RUST_BACKTRACE=1 /opt/test --exact --ignored --test-threads=1 {} 2>&1",
        tests.join(" ")
    ));
    assert!(said.contains("test result: ok. 2 passed"), "{said}");
}

/// A cache on a file system, and what the image has to be.
struct Cache(PathBuf);

impl Cache {
    fn file(&self, file: &str) -> PathBuf {
        self.0.join("hello").join(file)
    }

    fn builder(&self, policy: VerifyPolicy) -> ImageManagerBuilder {
        let url = |file| format!("file://{SERVED}/{file}");
        let pin = |file| sha256_hex(&fs_err::read(Path::new(SERVED).join(file)).unwrap());
        let source = ImageSource::builder("hello")
            .kernel(&url(FILES[0]), Some(&pin(FILES[0])))
            .rootfs(&url(FILES[1]), Some(&pin(FILES[1])))
            .build()
            .unwrap();
        ImageManager::builder()
            .cache_dir(&self.0)
            .registry(Registry::from_iter([source]))
            .verify(policy)
    }

    /// Asks a new manager for the image, as a new process would; what was done about the root file
    /// system.
    fn ask(&self, policy: VerifyPolicy) -> Vec<Event> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let options = FetchOptions::new().on_event({
            let heard = Arc::clone(&heard);
            move |kind, event| {
                if kind.label() == "rootfs" && !matches!(event, Event::Progress { .. }) {
                    heard.lock().unwrap().push(event.clone());
                }
            }
        });
        let manager = self.builder(policy).sync_later(false).build().unwrap();
        manager.ensure_image_with("hello", &options).unwrap();
        for file in FILES {
            let bytes = fs_err::read(self.file(file));
            assert!(bytes.is_err() || bytes.unwrap() == served(file), "{file}");
        }
        heard.lock().unwrap().clone()
    }

    fn is_hit_without_hashing(&self) -> bool {
        matches!(self.ask(VerifyPolicy::Changed)[..], [Event::Cached { .. }])
    }

    fn is_hashed_and_right(&self) -> bool {
        let heard = self.ask(VerifyPolicy::Changed);
        matches!(heard[..], [Event::Verifying { .. }, Event::Cached { .. }])
    }

    fn stamps(&self) -> String {
        fs_err::read_to_string(self.file(".verified-0.json")).unwrap_or_default()
    }

    /// Fetches the image; the thread that lives on enables it.
    fn fetch_protected(&self) {
        let manager =
            self.builder(VerifyPolicy::Changed).fs_verity(true).sync_later(true).build().unwrap();
        manager.ensure_image("hello").unwrap();
        let patience = Instant::now() + PATIENCE;
        while self.stamps().matches("\"verity\":").count() != 2 {
            assert!(Instant::now() < patience, "{}", self.stamps());
            std::thread::sleep(Duration::from_millis(50));
        }
        for file in FILES {
            let refused = fs_err::OpenOptions::new().write(true).open(self.file(file));
            assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        }
    }
}

fn served(file: &str) -> Vec<u8> {
    fs_err::read(Path::new(SERVED).join(file)).unwrap()
}

fn sh(line: &str) -> String {
    let output = HostCommand::new("sh").arg("-ec").arg(line).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What counts is what the kernel says of the bytes, and nothing else.
fn story(cache: &Cache) {
    cache.fetch_protected();
    assert!(cache.is_hit_without_hashing());
    let rootfs = cache.file(FILES[1]);

    // Times, modes and links that change, and another boot.
    let file = fs_err::File::open(&rootfs).unwrap();
    file.file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    fs_err::hard_link(&rootfs, cache.file("link")).unwrap();
    fs_err::set_permissions(&rootfs, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(cache.is_hit_without_hashing());
    let stamps = cache.stamps();
    let (_, body) = stamps.split_once('\n').unwrap();
    let this_boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let body =
        body.replace(this_boot.trim(), "another").replace("\"synced\":true", "\"synced\":false");
    assert!(body.contains("another"));
    fs_err::write(
        cache.file(".verified-0.json"),
        format!("{}\n{body}", sha256_hex(body.as_bytes())),
    )
    .unwrap();
    assert!(cache.is_hit_without_hashing());
    // The usual policy hashes.
    assert!(matches!(cache.ask(VerifyPolicy::Always)[0], Event::Verifying { .. }));

    // Other bytes of the same size.
    let mut other = served(FILES[1]);
    other[1000] ^= 1;
    fs_err::remove_file(&rootfs).unwrap();
    fs_err::write(&rootfs, other).unwrap();
    let heard = cache.ask(VerifyPolicy::Changed);
    assert!(heard.iter().any(|event| matches!(event, Event::Damaged { .. })), "{heard:?}");
    assert!(cache.is_hit_without_hashing());

    // A copy loses it: it is hashed, once.
    cache.fetch_protected();
    fs_err::copy(&rootfs, cache.file("copy")).unwrap();
    fs_err::rename(cache.file("copy"), &rootfs).unwrap();
    assert!(cache.is_hashed_and_right());
    std::thread::sleep(Duration::from_millis(100));
    cache.ask(VerifyPolicy::Changed);
    assert!(cache.is_hit_without_hashing());

    // Where it was enabled before, a pass binds the one digest to the other.
    cache.fetch_protected();
    fs_err::remove_file(cache.file(".verified-0.json")).unwrap();
    assert!(cache.is_hashed_and_right());
    assert_eq!(cache.stamps().matches("\"verity\":").count(), 2);
    assert!(cache.is_hit_without_hashing());
}

#[test]
#[ignore = "fs_verity_protects_cached_files_in_a_guest_that_has_it runs it in its guest"]
fn in_the_guest_on_btrfs() {
    story(&Cache("/mnt/btrfs/cache".into()));
}

/// Damage of the disk is found by the kernel when it reads, and repaired when the image is asked
/// for by the usual policy.
#[test]
#[ignore = "fs_verity_protects_cached_files_in_a_guest_that_has_it runs it in its guest"]
fn in_the_guest_on_ext4() {
    let cache = Cache("/mnt/ext4/cache".into());
    story(&cache);

    sh("umount /mnt/ext4");
    let block = sh("debugfs -R 'bmap /cache/hello/rootfs.ext4 50' /opt/ext4 2> /dev/null");
    sh(&format!("dd if=/dev/urandom of=/opt/ext4 bs=4096 count=1 conv=notrunc seek={block}"));
    sh("mount -o loop /opt/ext4 /mnt/ext4");
    let rootfs = cache.file(FILES[1]);
    assert!(fs_err::read(&rootfs).is_err(), "the kernel does not pass it on");
    assert!(cache.is_hit_without_hashing());
    let heard = cache.ask(VerifyPolicy::Always);
    let told =
        |event: &Event| matches!(event, Event::Damaged { reason } if reason.contains("fs-verity"));
    assert!(heard.iter().any(told), "{heard:?}");
    assert!(heard.iter().any(|event| matches!(event, Event::Fetched { .. })), "{heard:?}");
    assert_eq!(fs_err::read(&rootfs).unwrap(), served(FILES[1]));
}
