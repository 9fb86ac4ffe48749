//! The guest's name server: passes on to the host's what may be asked, and opens what the answers
//! to allowed questions tell before the guest hears it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use super::inside::{OPEN_ADDRESSES, OPEN_PORTS};
use super::{Arguments, Guest, commands};
use crate::egress::{Destination, Egress};
use crate::network::dns::{self, LONGEST};
use crate::network::opened::{may_ask, to_open};
use crate::pool::TABLE;

/// Asks the host's name server, from the host's namespace.
pub(super) struct Asker {
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
}

/// The guest's name server.
pub(super) struct Names {
    socket: UdpSocket,
    asker: Asker,
    egress: Egress,
    nft: PathBuf,
}

/// What the guest has asked.
struct Question {
    message: Vec<u8>,
    from: SocketAddr,
}

/// What the host's name server says to it.
struct Answer {
    message: Vec<u8>,
    to: SocketAddr,
}

/// How long the host's name server may take; whoever asks waits about as long, and asks again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many questions may be open at once. What is more is not asked.
const OPEN: usize = 32;

impl Asker {
    /// Starts asking this server.
    pub(super) fn start(server: Ipv4Addr) -> Self {
        let (questions, asked) = mpsc::sync_channel::<Question>(OPEN);
        let (answered, answers) = mpsc::sync_channel(OPEN);
        thread::spawn(move || {
            let open = Arc::new(AtomicUsize::new(0));
            for question in asked {
                if open.load(Ordering::Relaxed) >= OPEN {
                    continue;
                }
                open.fetch_add(1, Ordering::Relaxed);
                let (open, answered) = (Arc::clone(&open), answered.clone());
                // A socket for each question: its port is not to be guessed.
                thread::spawn(move || {
                    if let Ok(message) = ask(server, &question.message) {
                        let _ = answered.send(Answer { message, to: question.from });
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { questions, answers }
    }
}

/// Asks a server something, and returns what it answers to that.
fn ask(server: Ipv4Addr, message: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Nor is the number of the question, which the guest could tell somebody who would answer.
    let mut number = [0; 2];
    File::open("/dev/urandom")?.read_exact(&mut number)?;
    let mut asked = message.to_vec();
    asked[..2].copy_from_slice(&number);
    socket.send(&asked)?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer)?;
        let is_answer = buffer[..length].starts_with(&number)
            && dns::answers(&buffer[..length]).map(|(question, _)| question)
                == dns::question(message);
        if is_answer {
            buffer.truncate(length);
            buffer[..2].copy_from_slice(&message[..2]);
            return Ok(buffer);
        }
    }
}

impl Names {
    pub(super) fn new(asker: Asker, arguments: &Arguments, guest: &Guest) -> io::Result<Self> {
        let socket = UdpSocket::bind((guest.gateway, 53))?;
        let (egress, nft) = (arguments.egress.clone(), arguments.nft.clone());
        Ok(Self { socket, asker, egress, nft })
    }

    /// Serves the guest for ever.
    pub(super) fn serve(self) -> io::Result<()> {
        let Self { socket, asker: Asker { questions, answers }, egress, nft } = self;
        let (answering, telling) = (socket.try_clone()?, egress.clone());
        thread::spawn(move || {
            for Answer { message, to } in answers {
                // What could not be opened must not be told: the guest would try in vain.
                if open(&nft, &telling, &message).is_ok() {
                    let _ = answering.send_to(&message, to);
                }
            }
        });
        let mut buffer = [0; LONGEST];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let message = &buffer[..length];
            let Some(question) = dns::question(message) else { continue };
            let may_ask = match &egress {
                Egress::All => true,
                Egress::Nothing => false,
                Egress::Allow(allowed) => may_ask(allowed, &question.name),
            };
            if !may_ask {
                let _ = socket.send_to(&dns::no_such_name(message, &question), from);
                continue;
            }
            match questions.try_send(Question { message: message.to_vec(), from }) {
                // It will ask again.
                Ok(()) | Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Disconnected(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }
}

/// Opens what an answer tells, if it is to be opened.
fn open(nft: &std::path::Path, egress: &Egress, message: &[u8]) -> io::Result<()> {
    let Egress::Allow(allowed) = egress else { return Ok(()) };
    let Some((question, answers)) = dns::answers(message) else { return Ok(()) };
    let script = script(allowed, &question.name, &answers);
    if script.is_empty() { Ok(()) } else { commands::nft(nft, &script) }
}

/// An element is deleted first, since adding one that is there leaves it as old as it is; it is
/// added before that, since deleting what is not there is an error.
fn script(allowed: &[Destination], name: &str, answers: &[dns::Address]) -> String {
    let mut script = String::new();
    for (address, port, time) in to_open(allowed, name, answers) {
        let (set, element) = match port {
            None => (OPEN_ADDRESSES, address.to_string()),
            Some(port) => (OPEN_PORTS, format!("{address} . {port}")),
        };
        let seconds = time.as_secs();
        // Writing to a String does not fail.
        let _ = write!(
            script,
            "add element inet {TABLE} {set} {{ {element} }}\n\
             delete element inet {TABLE} {set} {{ {element} }}\n\
             add element inet {TABLE} {set} {{ {element} timeout {seconds}s }}\n"
        );
    }
    script
}
