//! Whatever the other side sends: nothing panics, nothing grows, and what was encoded is decoded.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use smolvm_protocol::{
    Decoder, Entry, EntryKind, EntryPath, Exec, Exit, Failure, FailureKind, Frame, HEADER,
    MAX_PAYLOAD, Network, PowerOff, Preamble, Program, ProtocolError, Reply, Request, Scanner,
    Side, Stream, Welcome, WindowSize,
};

/// Bytes such as a field may have; short, so that many of them are tried.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn stream() -> impl Strategy<Value = Stream> {
    select(vec![Stream::Stdin, Stream::Stdout, Stream::Stderr])
}

fn window_size() -> impl Strategy<Value = WindowSize> {
    (any::<u16>(), any::<u16>()).prop_map(|(rows, columns)| WindowSize { rows, columns })
}

fn exec() -> impl Strategy<Value = Exec> {
    let program = prop_oneof![
        bytes().prop_map(Program::Shell),
        vec(bytes(), 0..5).prop_map(Program::Arguments),
    ];
    let env = vec((bytes(), bytes()), 0..5);
    let terminal = option::of(window_size());
    (program, env, option::of(bytes()), option::of(".{0,9}"), any::<bool>(), terminal).prop_map(
        |(program, env, cwd, user, stdin, terminal)| Exec {
            program,
            env,
            cwd,
            user,
            stdin,
            terminal,
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let path = vec("[a-z. ]{0,8}[a-z]", 0..4)
        .prop_filter_map("no path", |names| EntryPath::parse(names.join("/").as_bytes()).ok());
    let kind = prop_oneof![
        any::<u64>().prop_map(EntryKind::File),
        Just(EntryKind::Directory),
        vec(1..=255_u8, 1..20).prop_map(EntryKind::Symlink),
    ];
    (path, kind, 0..=0o7777_u32, any::<u64>()).prop_map(|(path, kind, mode, modified)| Entry {
        path,
        kind,
        mode,
        modified,
    })
}

fn network() -> impl Strategy<Value = Network> {
    let address = any::<IpAddr>;
    let name_servers = vec(address(), 0..4);
    let prefix = 0..=32_u8;
    (address(), prefix, option::of(address()), name_servers, any::<Option<u16>>(), ".{0,9}")
        .prop_map(|(address, prefix, gateway, name_servers, mtu, host_name)| Network {
            address,
            prefix,
            gateway,
            name_servers,
            mtu,
            host_name,
        })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        exec().prop_map(Request::Exec),
        bytes().prop_map(Request::Put),
        bytes().prop_map(Request::Get),
        any::<u16>().prop_map(Request::Connect),
        any::<u64>().prop_map(Request::SetTime),
        network().prop_map(Request::SetNetwork),
        select(vec![PowerOff::Orderly, PowerOff::Now]).prop_map(Request::PowerOff),
        select(vec![Request::Settle, Request::Ping, Request::End, Request::Close]),
        bytes().prop_map(Request::Data),
        bytes().prop_map(Request::Reseed),
        (stream(), any::<u32>()).prop_map(|(stream, bytes)| Request::Credit(stream, bytes)),
        entry().prop_map(Request::Entry),
        any::<u8>().prop_map(Request::Signal),
        window_size().prop_map(Request::Resize),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let welcome = (".{0,20}", ".{0,20}", any::<bool>(), any::<u64>())
        .prop_map(|(agent, kernel, has_init, uptime)| Welcome { agent, kernel, has_init, uptime });
    let exit = prop_oneof![any::<u8>().prop_map(Exit::Code), any::<u8>().prop_map(Exit::Signal),];
    let kind = select(vec![FailureKind::NotFound, FailureKind::Limit, FailureKind::Other]);
    prop_oneof![
        welcome.prop_map(Reply::Welcome),
        any::<u32>().prop_map(Reply::Started),
        (stream(), bytes()).prop_map(|(stream, bytes)| Reply::Data(stream, bytes)),
        stream().prop_map(Reply::End),
        any::<u32>().prop_map(Reply::Credit),
        entry().prop_map(Reply::Entry),
        (exit, any::<u64>()).prop_map(|(exit, nanos)| Reply::Exited { exit, nanos }),
        Just(Reply::Done),
        (kind, ".{0,20}").prop_map(|(kind, message)| Reply::Failed(Failure { kind, message })),
    ]
}

/// Takes all frames out of a stream that comes in pieces, with `look` at each.
fn frames(
    stream: &[u8],
    piece: usize,
    mut look: impl FnMut(&Frame<'_>),
) -> Result<(), ProtocolError> {
    let mut decoder = Decoder::default();
    for piece in stream.chunks(piece) {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            look(&frame);
        }
    }
    Ok(())
}

/// What everybody does with a frame of the other side's.
fn read(frame: &Frame<'_>) {
    let _ = Request::decode(frame);
    let _ = Reply::decode(frame);
    let _ = Reply::frame_cost(frame);
    let _ = (Reply::frame_is_final(frame), Request::frame_is_opener(frame));
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(
        messages in vec((any::<u32>(), request(), reply()), 1..20),
        piece in 1..200_usize,
    ) {
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for (channel, request, reply) in &messages {
            request.encode(*channel, &mut requests);
            reply.encode(*channel, &mut replies);
        }
        let mut expected = messages.iter();
        frames(&requests, piece, |frame| {
            let (channel, request, _) = expected.next().unwrap();
            assert_eq!((&frame.channel, &Request::decode(frame).unwrap()), (channel, request));
            assert_eq!(Request::frame_is_opener(frame), request.is_opener());
        })?;
        assert_eq!(expected.len(), 0);
        let mut expected = messages.iter();
        frames(&replies, piece, |frame| {
            let (channel, _, reply) = expected.next().unwrap();
            assert_eq!((&frame.channel, &Reply::decode(frame).unwrap()), (channel, reply));
            assert_eq!(Reply::frame_is_final(frame), reply.is_final());
        })?;
        assert_eq!(expected.len(), 0);
    }

    #[test]
    fn no_bytes_panic(stream in vec(any::<u8>(), 0..5000), piece in 1..500_usize) {
        let _ = frames(&stream, piece, read);
    }

    /// Payloads of every kind, most of which are none.
    #[test]
    fn no_payload_panics(kind in any::<u8>(), payload in vec(any::<u8>(), 0..200)) {
        read(&Frame { channel: 1, kind, payload: &payload });
    }

    /// Messages that are almost right go deeper than noise does.
    #[test]
    fn no_damage_panics(
        messages in vec((request(), reply()), 1..10),
        damage in vec((any::<Index>(), any::<u8>()), 1..10),
        piece in 1..500_usize,
    ) {
        let mut stream = Vec::new();
        for (request, reply) in &messages {
            request.encode(1, &mut stream);
            reply.encode(1, &mut stream);
        }
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let _ = frames(&stream, piece, read);
    }

    /// What is decoded can be said again, and is the same then: no two readers understand it
    /// differently.
    #[test]
    fn what_is_understood_is_understood_alike(kind in any::<u8>(), payload in bytes()) {
        let mut wire = Vec::new();
        if let Ok(request) = Request::decode(&Frame { channel: 7, kind, payload: &payload }) {
            request.encode(7, &mut wire);
            frames(&wire, wire.len(), |frame| {
                assert_eq!(Request::decode(frame).as_ref(), Ok(&request));
            })?;
        }
    }

    #[test]
    fn a_preamble_is_found_behind_anything(
        before in vec(select(b"SMOLVM-GUES\nx\x01\x00".to_vec()), 0..300),
        nonce in any::<[u8; 16]>(),
        after in bytes(),
        piece in 1..100_usize,
    ) {
        let preamble = Preamble::new(Side::Guest, nonce);
        let stream = [&before[..], &preamble.encode(), &after].concat();
        let mut scanner = Scanner::for_guest(nonce);
        let mut rest = Vec::new();
        let mut found = None;
        for piece in stream.chunks(piece) {
            match &found {
                Some(_) => rest.extend_from_slice(piece),
                None => if let Some((preamble, first)) = scanner.push(piece)? {
                    found = Some(preamble);
                    rest = first;
                }
            }
        }
        prop_assert_eq!(found, Some(preamble));
        prop_assert_eq!(rest, after);
    }

    /// Somebody who announces much is not believed before it has come.
    #[test]
    fn a_length_takes_no_memory(length in any::<u32>(), kind in any::<u8>()) {
        let mut decoder = Decoder::default();
        decoder.push(&[&length.to_le_bytes()[..], &[1, 0, 0, 0, kind]].concat());
        let next = decoder.next_frame();
        if length as usize > MAX_PAYLOAD {
            prop_assert_eq!(next, Err(ProtocolError::FrameTooLong(length)));
        } else if length > 0 {
            prop_assert_eq!(next, Ok(None));
        }
    }

    /// The same for what is inside a frame: a list that claims to have thousands of millions of
    /// items, a field that claims to be longer than its frame.
    #[test]
    fn no_count_takes_memory(count in 1_000..u32::MAX, kind in any::<u8>(), first in 0..3_u8) {
        let payload = [&[first][..], &count.to_le_bytes(), &[0; 40]].concat();
        read(&Frame { channel: 1, kind, payload: &payload });
        read(&Frame { channel: 1, kind, payload: &payload[1..] });
    }
}

/// The most bytes that are allocated at once while a stream is read: counted by the allocator,
/// since nothing else can tell.
mod memory {
    #![expect(unsafe_code, reason = "there is no safe way to write an allocator")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<isize> = const { Cell::new(0) };
        static PEAK: Cell<isize> = const { Cell::new(0) };
    }

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn count(change: isize) {
        // A thread that is ending has no counts any more.
        let _ = NOW.try_with(|now| {
            now.set(now.get() + change);
            PEAK.with(|peak| peak.set(peak.get().max(now.get())));
        });
    }

    fn size(layout: Layout) -> isize {
        isize::try_from(layout.size()).unwrap_or(isize::MAX)
    }

    // SAFETY: all is done by the system's allocator, as it asks for it.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(size(layout));
            // SAFETY: the caller keeps the promises that this asks for.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            count(-size(layout));
            // SAFETY: as above.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    /// The most bytes that `work` had at once, beyond what there was before it.
    pub(super) fn peak(work: impl FnOnce()) -> usize {
        let before = NOW.get();
        PEAK.set(before);
        work();
        usize::try_from(PEAK.get() - before).unwrap_or(0)
    }
}

/// The bound that the decoder promises: one frame and one read, and not twice that while it grows.
#[test]
fn a_decoder_holds_no_more_than_a_frame_and_what_was_read() {
    const READ: usize = 64 * 1024;
    let frame = |length: usize| {
        let payload = vec![0; length];
        let mut wire = Vec::new();
        Frame { channel: 1, kind: 144, payload: &payload }.encode(&mut wire);
        wire
    };
    let large = frame(MAX_PAYLOAD).repeat(50);
    let small = frame(1).repeat(300_000);
    for stream in [large, small] {
        let peak = memory::peak(|| {
            frames(&stream, READ, |_| {}).unwrap();
        });
        assert!(peak <= 3 * (HEADER + MAX_PAYLOAD + READ), "{peak} bytes");
    }
}

/// A frame takes no more memory than a small multiple of itself, whatever it claims.
#[test]
fn a_message_takes_memory_for_what_is_there() {
    // A list of as many empty items as there is room for is the worst that can be said.
    let mut lists = vec![1];
    lists.extend_from_slice(&u32::MAX.to_le_bytes());
    lists.resize(MAX_PAYLOAD, 0);
    for kind in 0..=255 {
        let peak = memory::peak(|| read(&Frame { channel: 1, kind, payload: &lists }));
        assert!(peak <= 20 * MAX_PAYLOAD, "{peak} bytes for a frame of kind {kind}");
    }
}
