//! The guest's side of the agent's channel in the hands of a test: the VMM is this program once
//! more, and sends the channel to the test.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use smolvm_protocol::{Decoder, Preamble, Reply, Request, SESSION_CHANNEL, Scanner, Side, Welcome};
use smolvm_supervisor::control::{Order, Program, Report, Setting};

use crate::client::Client;
use crate::rig::{Place, Supervisor, TIMEOUT, eventually};

/// A guest that does what the test does.
pub(crate) struct Guest {
    pub(crate) channel: UnixStream,
    decoder: Decoder,
}

/// A VM whose guest is in the hands of the test.
pub(crate) struct Vm {
    pub(crate) supervisor: Supervisor,
    pub(crate) guest: Guest,
    rendezvous: UnixListener,
}

/// The environment variable with the socket on which the test waits for the channel.
const RENDEZVOUS: &str = "SMOLVM_TEST_RENDEZVOUS";

/// The VMM: gives its descriptor 9, which the shell makes its standard input, to the test.
#[test]
#[ignore = "the VMM of other tests"]
fn vmm() {
    let Some(rendezvous) = std::env::var_os(RENDEZVOUS) else { return };
    let socket = UnixStream::connect(rendezvous).unwrap();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let stdin = std::io::stdin();
    let channel = [stdin.as_fd()];
    assert!(message.push(SendAncillaryMessage::ScmRights(&channel)));
    sendmsg(&socket, &[IoSlice::new(b".")], &mut message, SendFlags::empty()).unwrap();
    loop {
        std::thread::park();
    }
}

fn program(rendezvous: &Path) -> Program {
    let line = format!("{RENDEZVOUS}=$1 exec \"$0\" --exact guest::vmm --ignored <&9");
    let this = std::env::current_exe().unwrap();
    Program::vmm([
        "sh".as_ref(),
        "-c".as_ref(),
        line.as_ref(),
        this.as_os_str(),
        rendezvous.as_os_str(),
    ])
}

impl Vm {
    /// Makes and starts a VM.
    pub(crate) fn start(place: &Place, id: &str) -> Self {
        Self::start_with(place, id, Vec::new())
    }

    /// As [`start`](Self::start), with settings of the VMM.
    pub(crate) fn start_with(place: &Place, id: &str, settings: Vec<Setting>) -> Self {
        let rendezvous = UnixListener::bind(place.path().join(format!("{id}.sock"))).unwrap();
        rendezvous.set_nonblocking(true).unwrap();
        let mut supervisor = place.make(id, "owned", Vec::new());
        let guest = Guest::launch(&mut supervisor, &rendezvous, settings);
        Self { supervisor, guest, rendezvous }
    }

    /// Starts the VMM again.
    pub(crate) fn launch(&mut self) {
        self.guest = Guest::launch(&mut self.supervisor, &self.rendezvous, Vec::new());
    }

    /// Starts a VM whose guest has answered, with a client that has seen it.
    pub(crate) fn with_client(place: &Place, id: &str) -> (Self, Client) {
        let mut vm = Self::start(place, id);
        vm.guest.greet();
        let client = vm.client();
        (vm, client)
    }

    /// A client that has seen the welcome.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.visitor();
        assert_eq!(client.welcome(), Reply::Welcome(welcome()));
        client
    }

    /// A client that has not seen anything.
    pub(crate) fn visitor(&self) -> Client {
        Client::connect(&self.supervisor.runtime.join("agent.sock"))
    }

    /// Ends the VMM from outside, and waits until the supervisor has seen that.
    pub(crate) fn end(&mut self) -> Report {
        self.supervisor.tell(&Order::Kill);
        self.supervisor.next().unwrap()
    }
}

impl Guest {
    fn launch(
        supervisor: &mut Supervisor,
        rendezvous: &UnixListener,
        settings: Vec<Setting>,
    ) -> Self {
        let address = rendezvous.local_addr().unwrap();
        let program = program(address.as_pathname().unwrap());
        supervisor.launch(vec![settings.into_iter().fold(program, Program::with)]);
        let mut visit = None;
        eventually("the VMM runs", || {
            visit = rendezvous.accept().ok();
            visit.is_some()
        });
        Self::at(UnixStream::from(received(&visit.unwrap().0)))
    }

    /// The guest at this end of the agent's channel.
    pub(crate) fn at(channel: UnixStream) -> Self {
        channel.set_read_timeout(Some(TIMEOUT)).unwrap();
        channel.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self { channel, decoder: Decoder::default() }
    }

    /// Answers the host.
    pub(crate) fn greet(&mut self) {
        let preamble = self.preamble();
        self.answer(preamble);
    }

    /// Answers a preamble.
    pub(crate) fn answer(&mut self, preamble: Preamble) {
        self.say_bytes(&Preamble::new(Side::Guest, preamble.nonce).encode());
        self.say(SESSION_CHANNEL, &Reply::Welcome(welcome()));
    }

    /// What the host says first.
    pub(crate) fn preamble(&mut self) -> Preamble {
        let mut scanner = Scanner::for_host();
        loop {
            let bytes = self.read();
            if let Some((preamble, rest)) = scanner.push(&bytes).unwrap() {
                self.decoder.push(&rest);
                return preamble;
            }
        }
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> (u32, Request) {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return (frame.channel, Request::decode(&frame).unwrap());
            }
            let bytes = self.read();
            self.decoder.push(&bytes);
        }
    }

    pub(crate) fn say(&mut self, channel: u32, reply: &Reply) {
        let mut wire = Vec::new();
        reply.encode(channel, &mut wire);
        self.say_bytes(&wire);
    }

    pub(crate) fn say_frame(&mut self, channel: u32, kind: u8, payload: &[u8]) {
        let mut wire = Vec::new();
        smolvm_protocol::Frame { channel, kind, payload }.encode(&mut wire);
        self.say_bytes(&wire);
    }

    /// Says anything. The host may have heard enough before the last byte of it.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        match self.channel.write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
    }

    fn read(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        let count = self.channel.read(&mut buffer).unwrap();
        assert!(count > 0, "the host has left");
        buffer.truncate(count);
        buffer
    }
}

/// The descriptor that comes over a socket.
fn received(socket: &UnixStream) -> OwnedFd {
    socket.set_nonblocking(false).unwrap();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)
        .unwrap();
    let mut messages = message.drain();
    match messages.next() {
        Some(RecvAncillaryMessage::ScmRights(mut channels)) => channels.next().unwrap(),
        _ => panic!("the VMM has sent no descriptor"),
    }
}

/// What every guest here says first.
pub(crate) fn welcome() -> Welcome {
    Welcome { agent: "0.1.0".into(), kernel: "6.1.0-test".into(), has_init: false, uptime: 42 }
}
