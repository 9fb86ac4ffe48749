//! Copies into a real guest and out of it, and ports that lead into it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use smolvm_testkit::content;
use smolvm_vm::{Command, Vm};

use super::images::{Image, Site, TINY};

#[test]
fn a_tree_comes_back_as_it_went() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site)).unwrap();
    let tree = site.temp.path().join("tree");
    fs_err::create_dir_all(tree.join("a/b")).unwrap();
    let noise = content::noise(3, 3 << 20);
    fs_err::write(tree.join("a/b/noise"), &noise).unwrap();
    fs_err::write(tree.join("a/empty"), "").unwrap();
    fs_err::set_permissions(tree.join("a/empty"), std::fs::Permissions::from_mode(0o751)).unwrap();
    symlink("b/noise", tree.join("a/link")).unwrap();

    vm.copy_to(&tree, "/root/copied").unwrap();
    let digest =
        vm.run("sha256sum < /root/copied/a/link; stat -c %a /root/copied/a/empty").unwrap();
    let expected = format!("{}  -\n751\n", content::sha256_hex(&noise));
    assert_eq!(digest.stdout(), expected);

    let back = site.temp.path().join("back");
    vm.copy_from("/root/copied", &back).unwrap();
    assert_eq!(fs_err::read(back.join("a/b/noise")).unwrap(), noise);
    assert_eq!(fs_err::read_link(back.join("a/link")).unwrap().to_str(), Some("b/noise"));
    let mode = fs_err::metadata(back.join("a/empty")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o751);

    let error = vm.copy_from("/no/such/file", &back).unwrap_err().to_string();
    assert!(error.contains("/no/such/file"), "{error}");
}

#[test]
fn a_port_leads_into_the_guest() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site)).unwrap();
    let server = vm.popen(Command::shell("nc -l -p 7000 -e cat")).unwrap();
    let forward = vm.forward(7000, None).unwrap();
    let noise = content::noise(5, 1 << 20);
    let echoed = (0..50).find_map(|_| {
        let mut stream = TcpStream::connect(("127.0.0.1", forward.host_port())).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let sent = noise.clone();
        let writing = std::thread::spawn(move || {
            // The server may not listen yet, and end the connection.
            let _ = writer.write_all(&sent);
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        let mut echoed = Vec::new();
        let read = stream.read_to_end(&mut echoed);
        writing.join().unwrap();
        if read.is_err() || echoed.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(100));
            return None;
        }
        Some(echoed)
    });
    assert!(echoed.unwrap() == noise, "what came back is not what was sent");
    drop(server);
    let port = forward.host_port();
    drop(forward);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
}
