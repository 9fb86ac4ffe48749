//! The real nginx starts, serves, logs and ends.

mod wire;

use std::net::TcpStream;

use smolvm_testkit::{LogLine, Nginx, content, require_nginx};
use wire::get;

#[test]
fn nginx_serves_logs_and_ends() {
    if !require_nginx() {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    let bytes = content::noise(1, 300_000);
    fs_err::write(root.path().join("kernel"), &bytes).expect("a file");
    let nginx = Nginx::start(root.path());
    let (host, pid) = (nginx.host(), nginx.pid());
    assert_eq!(nginx.url("/kernel"), format!("http://{host}/kernel"));
    assert_eq!(get(&host, "/kernel", &[]).body, bytes);
    let part = get(&host, "/kernel?x", &["Range: bytes=299990-"]);
    assert_eq!((part.status(), &part.body[..]), (206, &bytes[299_990..]));
    assert_eq!(nginx.wait_for_log(2).len(), 2);
    assert_eq!(
        nginx.stop()[1],
        LogLine {
            method: "GET".into(),
            uri: "/kernel?x".into(),
            status: 206,
            body_bytes_sent: 10,
            range: Some("bytes=299990-".into()),
        }
    );
    assert!(TcpStream::connect(host).is_err());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn dropping_ends_nginx() {
    if !require_nginx() {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    let nginx = Nginx::builder(root.path()).config("return 418;").start();
    assert_eq!(get(&nginx.host(), "/", &[]).status(), 418);
    let (host, pid) = (nginx.host(), nginx.pid());
    drop(nginx);
    assert!(TcpStream::connect(host).is_err());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_refused_configuration_is_shown() {
    if !require_nginx() {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    let refusal = std::panic::catch_unwind(|| {
        Nginx::builder(root.path()).config("nonsense;").start();
    })
    .expect_err("no such directive");
    let message = refusal.downcast_ref::<String>().expect("a formatted message");
    assert!(message.contains("unknown directive \"nonsense\""), "{message}");
}
