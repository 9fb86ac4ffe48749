//! The program that leads a tap device to the packet filter: as root, and as somebody who is not.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use smolvm_supervisor::PROGRAM;
use smolvm_testkit::network::wait_for;
use smolvm_testkit::skip;

/// Gives everybody `/dev/net/tun`, as most hosts do, where nobody else sees it; then runs the rest.
const WITH_TUN: &str = r#"
set -e
mount -t tmpfs none /mnt
mknod /mnt/tun c 10 200
chmod 666 /mnt/tun
mount --bind /mnt/tun /dev/net/tun
exec "$@"
"#;

/// What a test starts, until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Runs a line in its network namespace.
    fn inside(&self, line: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.0.id().to_string(), "bash", "-c", line]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The next frame for the gateway; the guest also says to everybody which groups it is in.
fn receive(stream: &mut UnixStream) -> Vec<u8> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut frame).unwrap();
        if frame[..6] == [0x52, 0x55, 0x0a, 0, 2, 2] {
            return frame;
        }
    }
}

/// Starts it as somebody; returns it and the filter's end of its connection.
fn start(place: &Path, who: &[&str]) -> (Running, UnixStream) {
    let program = place.join("program");
    fs_err::write(&program, PROGRAM).unwrap();
    for (path, mode) in [(program.as_path(), 0o755), (place, 0o777)] {
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let (ready, socket) = (place.join("ready"), place.join("filter"));
    let filter = UnixListener::bind(&socket).unwrap();
    fs_err::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITH_TUN, "sh"]).args(who).arg(&program);
    command.arg("bridge").args([&ready, &socket]).args(["9000", "-"]);
    let running = Running(command.spawn().unwrap());
    let (stream, _) = filter.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    wait_for(|| ready.exists().then_some(()));
    (running, stream)
}

/// Somebody who is not root is in a user namespace as well.
#[test]
fn frames_of_a_tap_come_to_the_filter_and_back() {
    if !is_root() {
        return skip("only root can be somebody else and look into namespaces");
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    for who in [&[] as &[&str], &nobody] {
        let place = tempfile::tempdir().unwrap();
        let (running, mut filter) = start(place.path(), who);
        // In place of a guest, whose VMM has the tap open.
        running.inside(
            "ip link add port0 type veth peer name guest0 && \
             ip link set port0 master bridge0 mtu 9000 up && \
             ip link set guest0 address 52:54:00:12:34:56 mtu 9000 up && \
             ip address add 10.0.2.15/24 dev guest0 && \
             ip neighbour add 10.0.2.2 lladdr 52:55:0a:00:02:02 dev guest0",
        );
        running.inside("dd if=/dev/zero bs=8000 count=1 status=none > /dev/udp/10.0.2.2/9");
        let frame = receive(&mut filter);
        assert_eq!(frame.len(), 14 + 20 + 8 + 8000);

        // A question for the guest's address (RFC 826), which the guest answers.
        let mut question = [[0xff; 6], [0x52, 0x55, 0x0a, 0, 2, 2]].concat();
        question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x55, 0x0a, 0, 2, 2, 10, 0, 2, 2]);
        question.extend([0, 0, 0, 0, 0, 0, 10, 0, 2, 15]);
        filter.write_all(&u32::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
        filter.write_all(&question).unwrap();
        let answer = receive(&mut filter);
        assert_eq!(answer[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!(answer[28..32], [10, 0, 2, 15]);

        // Nothing in there has an address, and nothing is left when it ends.
        running.inside("! ip -o address show dev tap0 | grep .");
        running.inside("! ip -o address show dev bridge0 | grep .");
        drop(running);
        filter.read_to_end(&mut Vec::new()).unwrap();
    }
}
