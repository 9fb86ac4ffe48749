//! The monitor of a real QEMU, and monitors that are none.

use std::os::unix::net::UnixListener;
use std::process::{Child, Stdio};
use std::thread;

use super::*;
use crate::backend::Qemu;
use crate::kernel::Architecture;

/// A QEMU that waits before its guest's first instruction.
fn start_qemu(socket: &Path, more: &[&str]) -> Option<Child> {
    let Ok(qemu) = Qemu::find(Architecture::X86_64) else {
        smolvm_testkit::skip("there is no QEMU");
        return None;
    };
    let mut command = std::process::Command::new(qemu.program);
    command.args(["-M", "microvm", "-accel", "tcg", "-nodefaults", "-display", "none", "-S"]);
    command.args(more);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    // Its name is there a moment before it listens.
    while UnixStream::connect(socket).is_err() {
        assert_eq!(child.try_wait().unwrap(), None, "QEMU ended before it listened");
        thread::sleep(Duration::from_millis(5));
    }
    Some(child)
}

#[test]
fn a_real_qemu_tells_its_status_and_quits() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("qmp.sock");
    let Some(mut child) = start_qemu(&socket, &[]) else { return };
    let mut qmp = Qmp::connect(&socket, Duration::from_secs(20)).unwrap();
    let status = qmp.status().unwrap();
    assert_eq!(status, Status { running: false, status: "prelaunch".to_owned() });
    qmp.system_powerdown().unwrap();
    drop(qmp);
    let mut qmp = Qmp::connect(&socket, Duration::from_secs(20)).unwrap();
    qmp.quit().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn whatever_a_monitor_says_is_bounded_and_named() {
    let temp = tempfile::tempdir().unwrap();
    let endless = vec![b'x'; 3 << 20];
    let greeting = br#"{"QMP": 1}"#.as_slice();
    let unknown = [greeting, b"\n", br#"{"x": 1}"#, b"\n"].concat();
    let refusal = [greeting, b"\n", br#"{"error": {"desc": "no"}}"#, b"\n"].concat();
    let cases = [&b""[..], b"\xff\xfe\n", b"{}\n", &unknown, &refusal, greeting, &endless];
    for (number, said) in cases.into_iter().enumerate() {
        let socket = temp.path().join(format!("{number}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let said = said.to_vec();
        let monitor = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // The client may have read enough.
            let _ = stream.write_all(&said);
        });
        let error = Qmp::connect(&socket, Duration::from_secs(5)).unwrap_err().to_string();
        assert!(error.contains(socket.to_str().unwrap()), "{error}");
        monitor.join().unwrap();
    }
}

#[test]
fn a_monitor_that_does_not_answer_is_given_up() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("qmp.sock");
    // Nobody takes the connections: first they queue, then there is no room for more.
    let listener = UnixListener::bind(&socket).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    for _ in 0..3 {
        let error = Qmp::connect(&socket, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("timed out"), "{error}");
    }
}

#[test]
fn bytes_that_come_one_by_one_win_no_time() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("qmp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let monitor = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let error = Qmp::connect(&socket, Duration::from_millis(200)).unwrap_err().to_string();
    assert!(error.contains("timed out"), "{error}");
    monitor.join().unwrap();
}

#[test]
fn events_are_passed_over() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("qmp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let monitor = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"event\": \"STOP\"}\n{\"QMP\": {}}\n").unwrap();
        stream.write_all(b"{\"event\": \"RESUME\"}\n{\"return\": {}}\n").unwrap();
        stream.write_all(b"{\"event\": \"STOP\"}\n").unwrap();
        stream.write_all(b"{\"return\": {\"running\": true, \"status\": \"running\"}}\n").unwrap();
        // What the client says is not lost to a closed connection.
        let mut lines = BufReader::new(stream).lines();
        [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()]
    });
    let mut qmp = Qmp::connect(&socket, Duration::from_mins(1)).unwrap();
    assert!(qmp.status().unwrap().running);
    assert_eq!(
        monitor.join().unwrap(),
        [r#"{"execute":"qmp_capabilities"}"#, r#"{"execute":"query-status"}"#]
    );
}

/// A machine goes over a pipe, as into a file that QEMU could not open, and is read from a file.
#[test]
fn a_machine_goes_from_one_qemu_to_another() {
    use std::io::{Read as _, Seek as _};
    use std::os::fd::AsFd as _;

    let temp = tempfile::tempdir().unwrap();
    let (first, second) = (temp.path().join("first.sock"), temp.path().join("second.sock"));
    let Some(mut source) = start_qemu(&first, &[]) else { return };
    let mut qmp = Qmp::connect(&first, Duration::from_secs(20)).unwrap();
    qmp.cont().unwrap();
    qmp.stop().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    qmp.migrate(writer.as_fd()).unwrap();
    drop(writer);
    let mut machine = Vec::new();
    reader.read_to_end(&mut machine).unwrap();
    qmp.migrated().unwrap();
    assert!(!qmp.status().unwrap().running);
    qmp.cont().unwrap();
    assert!(qmp.status().unwrap().running);
    // What is zero takes next to no room: of 128 MiB.
    assert!(machine.len() < 4 << 20, "{} bytes", machine.len());
    drop(qmp);

    let mut target = start_qemu(&second, &["-incoming", "defer"]).unwrap();
    let mut qmp = Qmp::connect(&second, Duration::from_secs(20)).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&machine).unwrap();
    file.rewind().unwrap();
    qmp.migrate_incoming(file.as_fd()).unwrap();
    qmp.cont().unwrap();
    assert!(qmp.status().unwrap().running);
    qmp.quit().unwrap();
    target.wait().unwrap();

    // A pipe that nobody reads any more fails, and the machine stays as it was.
    let mut qmp = Qmp::connect(&first, Duration::from_secs(20)).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    qmp.migrate(writer.as_fd()).unwrap();
    let error = qmp.migrated().unwrap_err().to_string();
    assert!(error.contains("first.sock refuses migrate"), "{error}");
    assert!(qmp.status().unwrap().running);
    qmp.quit().unwrap();
    source.wait().unwrap();
}
