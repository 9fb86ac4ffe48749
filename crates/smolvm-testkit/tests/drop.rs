//! The end of a server; alone in its process, as it counts the threads of all servers in it.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod wire;

use std::io::Write as _;
use std::net::TcpStream;

use smolvm_testkit::{Fault, Gate, Route, Server};
use wire::{End, read_all};

fn threads_of_servers() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("Linux")
        .filter_map(|task| fs_err::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("fault-server"))
        .count()
}

#[test]
fn dropping_the_server_ends_its_threads_and_connections() {
    let gate = Gate::new();
    let server = Server::start();
    server.route("/stalled", Route::new(vec![0; 9]).fault(Fault::stall_at(1)));
    server.route("/held", Route::new(vec![0; 9]).fault(Fault::HoldAt(1, gate.clone())));
    server.route("/endless", Route::new(vec![0; 9]).fault(Fault::EndlessBody));
    let mut streams: Vec<_> = ["/stalled", "/held", "/endless"]
        .iter()
        .map(|path| {
            let mut stream = TcpStream::connect(server.host()).expect("a connection");
            write!(stream, "GET {path} HTTP/1.1\r\n\r\n").expect("open");
            server.wait_for_hits(path, 1);
            stream
        })
        .collect();
    let idle = TcpStream::connect(server.host()).expect("a connection");
    gate.wait_for_arrivals(1);
    assert!(threads_of_servers() >= 4, "one that accepts and three that serve");
    let address = server.address();
    drop(server);
    assert_eq!(threads_of_servers(), 0);
    streams.push(idle);
    for mut stream in streams {
        assert_ne!(read_all(&mut stream, usize::MAX).1, End::Silent);
    }
    assert!(TcpStream::connect(address).is_err());
}
