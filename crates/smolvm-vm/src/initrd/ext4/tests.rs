//! File systems that the real `mkfs.ext4` made, whole and damaged.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use smolvm_testkit::content::noise;

use super::*;

/// An image with what `fill` puts into it.
pub(in crate::initrd) fn image(options: &[&str], fill: impl FnOnce(&Path)) -> File {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, image) = (scratch.path().join("tree"), scratch.path().join("image"));
    fs_err::create_dir(&tree).unwrap();
    fill(&tree);
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-d"]).arg(&tree).args(options).arg(&image).arg("16M");
    let output = mkfs.output().expect("mkfs.ext4 of e2fsprogs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    File::options().read(true).write(true).open(&image).unwrap()
}

fn file(tree: &Path, path: &str, content: &[u8]) {
    let path = tree.join(path);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, content).unwrap();
}

/// Large and small files, one with holes, a large directory, and symlinks of all kinds.
fn fill(tree: &Path) {
    file(tree, "usr/lib/small", b"hello");
    file(tree, "usr/lib/large", &noise(1, 3_000_000));
    file(tree, "usr/lib/empty", b"");
    symlink("usr/lib", tree.join("lib")).unwrap();
    symlink("/usr/./lib/../lib/small", tree.join("absolute")).unwrap();
    symlink("../../../usr/lib/small", tree.join("usr/upwards")).unwrap();
    symlink(format!("{}usr/lib/small", "./".repeat(100)), tree.join("long")).unwrap();
    symlink("loop", tree.join("loop")).unwrap();
    for number in 0..400 {
        file(tree, &format!("many/a-name-that-fills-the-directory-{number}"), b"");
    }
    file(tree, "many/the-last", b"found");
    let holes = File::create(tree.join("holes")).unwrap();
    holes.write_all_at(b"end", 2_000_000).unwrap();
}

fn read(ext4: &Ext4<'_>, path: &str) -> Option<Vec<u8>> {
    ext4.read(path, 4 << 20).unwrap_or_else(|error| panic!("{path}: {error} ({ext4:?})"))
}

#[test]
fn files_read_as_they_were_written() {
    let layouts: [&[&str]; 6] = [
        &[],
        &["-b", "1024"],
        &["-b", "1024", "-O", "^extent,^64bit,^metadata_csum,^dir_index"],
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-b", "65536", "-N", "1024"],
        &["-O", "bigalloc,^resize_inode"],
    ];
    for options in layouts {
        let image = image(options, fill);
        let ext4 = Ext4::open(&image).unwrap();
        assert_eq!(read(&ext4, "/usr/lib/large").unwrap(), noise(1, 3_000_000), "{options:?}");
        assert_eq!(read(&ext4, "/usr/lib/empty").unwrap(), b"");
        for path in ["/lib/small", "/lib//small", "/absolute", "/usr/upwards", "/long"] {
            assert_eq!(read(&ext4, path).unwrap(), b"hello", "{path}, {options:?}");
        }
        assert_eq!(read(&ext4, "/many/the-last").unwrap(), b"found");
        let holes = read(&ext4, "/holes").unwrap();
        assert_eq!((holes.len(), &holes[2_000_000..]), (2_000_003, &b"end"[..]));
        assert!(holes[..2_000_000].iter().all(|byte| *byte == 0));
        for path in ["/usr/none", "/usr", "/lib/small/below", "/loop", "/loop/below"] {
            assert_eq!(read(&ext4, path), None, "{path}, {options:?}");
        }
        assert_eq!(ext4.list("/many").unwrap().unwrap().len(), 401);
        assert_eq!(ext4.list("/lib/small").unwrap(), None);
    }
}

#[test]
fn a_file_over_the_limit_is_not_read() {
    let image = image(&[], fill);
    let ext4 = Ext4::open(&image).unwrap();
    let error = ext4.read("/lib/large", 2_999_999).unwrap_err().to_string();
    assert_eq!(
        error,
        "its file /lib/large is larger than the 2999999 bytes that are read before boot"
    );
}

#[test]
fn what_is_not_ext4_or_not_read_is_said() {
    let other = tempfile::tempfile().unwrap();
    for length in [0, 1025, 1 << 20] {
        other.set_len(length).unwrap();
        assert!(matches!(Ext4::open(&other), Err(Ext4Error::NotExt4)), "{length}");
    }
    let inline = image(&["-O", "inline_data", "-I", "256"], |tree| file(tree, "small", b"x"));
    let ext4 = Ext4::open(&inline).unwrap();
    assert!(matches!(ext4.read("/small", 9), Err(Ext4Error::Unsupported { .. })));
}

#[test]
fn a_size_that_nothing_backs_allocates_nothing() {
    let image = image(&["-O", "^metadata_csum"], |tree| {
        symlink("x".repeat(100), tree.join("link")).unwrap();
    });
    let path = format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd());
    let request = "set_inode_field /link size 0x3ff00000000";
    let debugfs = Command::new("debugfs").args(["-w", "-R", request, &path]).output().unwrap();
    assert!(debugfs.status.success(), "{debugfs:?}");
    let ext4 = Ext4::open(&image).unwrap();
    assert!(matches!(ext4.read("/link", 9), Err(Ext4Error::TooLarge { limit: 4096, .. })));
}

/// All that can be asked of an image.
fn ask(image: &File) {
    let Ok(ext4) = Ext4::open(image) else { return };
    for path in ["/lib/large", "/many/the-last", "/many/none", "/long", "/usr/upwards", "/holes"] {
        let _ = ext4.read(path, 4 << 20);
    }
    let _ = ext4.list("/lib");
}

/// The bytes of an image that are not zero: damage elsewhere changes nothing.
fn used_bytes(image: &[u8]) -> Vec<usize> {
    let large = image.len() - 3_500_000;
    image[..large].iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect()
}

#[test]
fn no_damage_breaks_it() {
    // Without checksums damage is as good as forgery. The content of the large file comes last and
    // takes no part.
    let options = ["-b", "1024", "-O", "^metadata_csum,^64bit,^has_journal"];
    let image = image(&options, fill);
    let mut bytes = vec![0; 16 << 20];
    image.read_exact_at(&mut bytes, 0).unwrap();
    let used = used_bytes(&bytes);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    runner
        .run(&damage, |damage| {
            for (at, byte) in &damage {
                image.write_all_at(&[*byte], used[at.index(used.len())] as u64).unwrap();
            }
            ask(&image);
            for (at, _) in &damage {
                let at = used[at.index(used.len())];
                image.write_all_at(&bytes[at..=at], at as u64).unwrap();
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_index_of_a_directory_that_lies_is_not_followed() {
    let image = image(&["-b", "1024"], fill);
    let ext4 = Ext4::open(&image).unwrap();
    let directory = ext4.resolve("/many").unwrap().unwrap();
    let root = blocks::find(&ext4, &directory, 0).unwrap().start.unwrap();
    image.write_all_at(&[0xff; 24], root * 1024 + 0x20).unwrap();
    assert_eq!(read(&ext4, "/many/the-last").unwrap(), b"found");
}

#[test]
fn what_is_read_altogether_is_bounded() {
    let image = image(&["-b", "1024"], fill);
    let ext4 = Ext4::open(&image).unwrap();
    ext4.budget.set(3_100_000);
    assert!(read(&ext4, "/lib/large").is_some());
    let error = ext4.read("/lib/large", 4 << 20).unwrap_err();
    assert!(matches!(error, Ext4Error::Damaged { what: "its files have no end" }), "{error}");
}
