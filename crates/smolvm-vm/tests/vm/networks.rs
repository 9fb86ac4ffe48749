//! What a guest reaches, and what it does not.

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use smolvm_vm::{NetworkMode, Vm, VmError, VmErrorKind};

use super::images::{Image, Site, TINY};

/// A server on the host's loopback that a guest must not reach.
fn secret_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.0 200 OK\r\n\r\nsecret");
        }
    });
    port
}

#[test]
fn the_guest_has_the_address_that_it_is_said_to_have() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site)).unwrap();
    let address = vm.get_ip().unwrap().to_string();
    let addresses = vm.run("ip addr show up").unwrap();
    assert!(addresses.stdout().contains(&format!("inet {address}/")), "{addresses:?}");
    let name = vm.run("hostname").unwrap();
    assert_eq!(name.stdout().trim(), vm.id());
}

/// The guest runs untrusted code: this host's own services are not for it.
#[test]
fn the_guest_does_not_reach_the_host() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site)).unwrap();
    let port = secret_server();
    let gateway = vm.run("ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'").unwrap();
    let gateway = gateway.stdout().trim().to_owned();
    let mut targets = vec!["127.0.0.1".to_owned(), "169.254.169.254".to_owned()];
    if !gateway.is_empty() {
        targets.push(gateway);
    }
    for target in targets {
        let line = format!("timeout 2 wget -q -O - http://{target}:{port}/ 2>&1");
        let result = vm.run(line.as_str()).unwrap();
        assert!(!matches!(result.exit_code, 126 | 127 | 134 | 139), "{target}: {result:?}");
        assert!(!result.ok() && !result.stdout().contains("secret"), "{target}: {result:?}");
    }
}

#[test]
fn a_machine_without_a_network_has_no_address() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site).network(NetworkMode::None)).unwrap();
    let error = vm.get_ip().unwrap_err();
    assert!(matches!(error, VmError::NoAddress { .. }), "{error}");
    assert_eq!(error.kind(), VmErrorKind::Network);
    let devices = vm.run("ls /sys/class/net").unwrap();
    assert_eq!(devices.stdout().trim(), "lo");
    assert!(vm.run("ping -c 1 -W 2 127.0.0.1").unwrap().ok(), "its own loopback is up");
}
