//! Root file systems with modules in the places where distributions have them.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::ext4;
use super::*;

const RELEASE: &str = "6.1.0-9-cloud-amd64";

fn fill(modules: &Path) {
    let virtio = modules.join("kernel/drivers/virtio");
    fs_err::create_dir_all(&virtio).unwrap();
    fs_err::write(virtio.join("virtio.ko"), "first").unwrap();
    fs_err::write(virtio.join("virtio_ring.ko.zst"), "second").unwrap();
    fs_err::write(virtio.join("virtio-blk.ko.xz"), "third").unwrap();
    fs_err::write(virtio.join("snd.ko"), "not wanted").unwrap();
    let at = "kernel/drivers/virtio";
    fs_err::write(
        modules.join("modules.dep"),
        format!(
            "{at}/virtio.ko:\n{at}/snd.ko:\n{at}/virtio_ring.ko.zst: {at}/virtio.ko\n\
             {at}/virtio-blk.ko.xz: {at}/virtio_ring.ko.zst {at}/virtio.ko\n{at}/gone.ko:\n"
        ),
    )
    .unwrap();
    fs_err::write(modules.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\nkernel/fs/fat.ko\n")
        .unwrap();
}

fn rootfs(fill_tree: impl FnOnce(&Path)) -> File {
    ext4::tests::image(&[], fill_tree)
}

#[test]
fn the_wanted_drivers_are_read_with_what_they_need() {
    let wanted = &["virtio_blk", "virtio", "ext4", "overlay", "gone"];
    let merged = rootfs(|tree| {
        fill(&tree.join("usr/lib/modules").join(RELEASE));
        symlink("usr/lib", tree.join("lib")).unwrap();
    });
    let absolute = rootfs(|tree| {
        fill(&tree.join("data/modules").join(RELEASE));
        fs_err::create_dir(tree.join("lib")).unwrap();
        symlink("/data/modules", tree.join("lib/modules")).unwrap();
    });
    let plain = rootfs(|tree| fill(&tree.join("lib/modules").join(RELEASE)));
    let only_usr = rootfs(|tree| fill(&tree.join("usr/lib/modules").join(RELEASE)));
    for rootfs in [merged, absolute, plain, only_usr] {
        let modules = from_rootfs(&rootfs, RELEASE, wanted).unwrap();
        let contents: Vec<_> = modules.files.iter().map(|module| &module.content[..]).collect();
        assert_eq!(contents, [&b"first"[..], b"second", b"third"]);
        assert_eq!(modules.files[2].path, "kernel/drivers/virtio/virtio-blk.ko.xz");
        assert_eq!(modules.builtin, ["kernel/fs/ext4/ext4.ko"]);
        assert_eq!(modules.missing, ["overlay", "gone"]);
        let lists = (modules.dependency_list(), modules.builtin_list());
        let at = "kernel/drivers/virtio";
        assert_eq!(
            lists.0,
            format!(
                "{at}/virtio.ko:\n{at}/virtio_ring.ko.zst: {at}/virtio.ko\n\
                 {at}/virtio-blk.ko.xz: {at}/virtio_ring.ko.zst {at}/virtio.ko\n"
            )
        );
        assert_eq!(lists.1, "kernel/fs/ext4/ext4.ko\n");
    }
}

#[test]
fn a_rootfs_without_modules_says_why() {
    let said = |rootfs: &File| from_rootfs(rootfs, RELEASE, WANTED).unwrap_err().to_string();
    assert_eq!(
        said(&rootfs(|_| {})),
        format!("the rootfs has no kernel modules for {RELEASE} in /lib/modules")
    );
    let others = rootfs(|tree| {
        for release in ["5.10.0", "\x1b[2J"] {
            fs_err::create_dir_all(tree.join("lib/modules").join(release)).unwrap();
        }
    });
    assert!(said(&others).ends_with(", only for 5.10.0"), "{}", said(&others));
    let mut squashfs = tempfile::tempfile().unwrap();
    squashfs.write_all(&[b"hsqs".as_slice(), &[0; 5000]].concat()).unwrap();
    assert_eq!(said(&squashfs), "the rootfs gave no kernel modules: it is no ext4 file system");
}

#[test]
fn drivers_larger_than_any_are_not_read_into_memory() {
    let rootfs = rootfs(|tree| {
        let modules = tree.join("lib/modules").join(RELEASE);
        fill(&modules);
        for name in ["virtio.ko", "virtio_ring.ko.zst", "virtio-blk.ko.xz"] {
            let module = File::create(modules.join("kernel/drivers/virtio").join(name)).unwrap();
            module.set_len(30 << 20).unwrap();
        }
    });
    let error = from_rootfs(&rootfs, RELEASE, &["virtio_blk"]).unwrap_err();
    assert!(matches!(error, NoModules::TooLarge { .. }), "{error}");
}
