//! Images that a machine needs, and who wants to remove them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use smolvm_image::{
    FetchOptions, ImageError, ImageManager, ImageSource, ImageUser, PruneOptions, Registry,
};
use smolvm_vm::{SmolVm, VmConfig, VmState, Vms};

use super::images::{Image, Site, TINY};
use super::owner::Owner;

/// A cache with one image, whose name is that of the test image.
struct Cache {
    manager: ImageManager,
}

impl Cache {
    fn of(image: &Image, site: &Site) -> Self {
        let url = |path: PathBuf| format!("file://{}", path.display());
        let mut source = ImageSource::builder(TINY)
            .kernel(&url(image.kernel()), None)
            .rootfs(&url(image.rootfs()), None);
        if let Some(initrd) = image.initrd() {
            source = source.initrd(&url(initrd), None);
        }
        let manager = ImageManager::builder()
            .cache_dir(site.temp.path().join("cache"))
            .registry(Registry::from_iter([source.build().unwrap()]))
            .build()
            .unwrap();
        Self { manager }
    }

    /// Who keeps the image from being removed, by its name and by a prune of everything.
    fn users(&self) -> Vec<ImageUser> {
        let everything = PruneOptions::new().max_size(0);
        let pruned = self.manager.prune_with(&everything, &FetchOptions::new()).unwrap();
        assert_eq!(pruned.in_use.len(), 1, "{pruned:?}");
        assert!(self.manager.is_cached(TINY));
        match self.manager.remove(TINY, &FetchOptions::new()) {
            Err(ImageError::InUse { image, users }) => {
                assert_eq!(image, TINY);
                users
            }
            other => panic!("{other:?}"),
        }
    }

    fn expect_free(&self) {
        assert!(self.manager.remove(TINY, &FetchOptions::new()).unwrap().existed);
    }
}

fn programs(users: &[ImageUser]) -> Vec<&str> {
    users
        .iter()
        .filter_map(|user| match user {
            ImageUser::Process { program, .. } => Some(program.as_str()),
            _ => None,
        })
        .collect()
}

fn directories(users: &[ImageUser]) -> Vec<&Path> {
    users
        .iter()
        .filter_map(|user| match user {
            ImageUser::Directory { path } => Some(path.as_path()),
            _ => None,
        })
        .collect()
}

/// Behaviour 33: an image is in use while a machine runs of it that nobody owns any more, and
/// while that machine is stopped and will need it again. Who wants to remove it hears of both.
#[test]
fn an_image_is_kept_for_a_detached_machine() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let cache = Cache::of(&image, &site);
    let open = cache.manager.open_image(TINY, &FetchOptions::new()).unwrap();
    assert_eq!(directories(&cache.users()), Vec::<&Path>::new());
    let config = VmConfig::from_image(&open).unwrap().id("one").unwrap();
    drop(open);
    let vm = SmolVm::new(config.vms_dir(site.vms_dir()).detached(true)).unwrap();
    vm.start_within(Duration::from_mins(2)).unwrap();
    drop(vm);

    let users = cache.users();
    assert!(programs(&users).iter().any(|name| name.starts_with("smolvm-super")), "{users:?}");
    assert!(programs(&users).iter().any(|name| name.starts_with("qemu-system")), "{users:?}");
    assert_eq!(directories(&users), [site.vms_dir().join("one")]);

    let vm = Vms::at(site.vms_dir()).unwrap().open("one").unwrap();
    vm.stop().unwrap();
    assert_eq!(vm.info().state, VmState::Stopped);
    let users = cache.users();
    assert_eq!(programs(&users), Vec::<&str>::new(), "{users:?}");
    assert_eq!(directories(&users), [site.vms_dir().join("one")]);

    vm.start_within(Duration::from_mins(2)).unwrap();
    assert_eq!(vm.run("echo hi").unwrap().stdout(), "hi\n");
    vm.delete().unwrap();
    drop(vm);
    cache.expect_free();
}

/// Behaviour 33: a machine that was made of the paths of cached files keeps them in use, and they
/// are free once the program that owns it is killed.
#[test]
fn an_image_is_in_use_as_long_as_the_owner_of_a_machine() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let cache = Cache::of(&image, &site);
    let cached = cache.manager.ensure_image(TINY).unwrap();
    let directory = cached.kernel_path.parent().unwrap().to_owned();
    let mut owner = Owner::start(&Image::cached(&directory), &site);
    owner.booted();
    let users = cache.users();
    assert!(programs(&users).iter().any(|name| name.starts_with("qemu-system")), "{users:?}");
    assert_eq!(directories(&users), Vec::<&Path>::new());

    owner.kill();
    let deadline = Instant::now() + Duration::from_secs(30);
    while matches!(cache.manager.remove(TINY, &FetchOptions::new()), Err(ImageError::InUse { .. }))
    {
        assert!(Instant::now() < deadline, "it is in use though its owner is gone");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!directory.exists());
}
