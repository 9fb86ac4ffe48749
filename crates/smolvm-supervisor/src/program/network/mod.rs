//! The program between a guest's network device and passt: it lets nothing through that goes to
//! this host, to link-local or to metadata addresses.
//!
//! passt sends what a guest sends to any address on to that address, `127.0.0.1` and
//! `169.254.169.254` included, and has no option against it. So it does not get to see it. Nor does
//! it get to see what else an [`Egress`] does not allow.

pub(crate) mod dns;
pub(crate) mod frames;
pub(crate) mod opened;
mod own_addresses;
mod packet;
pub(crate) mod policy;
mod refusal;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::policy::{Policy, Verdict};
use crate::egress::{Egress, Network};
use crate::sys::{self, Preparation};

/// The first argument of a supervisor that is to be this program.
pub(crate) const ROLE: &str = "network";

/// The number of the socket in passt.
const PASST_SOCKET: i32 = 9;
/// How long passt may take to end after its socket was closed.
const PASST_END: Duration = Duration::from_secs(1);

/// What this program is started with.
struct Arguments {
    /// Where the VMM connects to.
    socket: PathBuf,
    gateway: Ipv4Addr,
    policy: Policy,
    /// Who it is to be once all is there.
    user: Option<u32>,
    /// passt and its arguments, but for its socket.
    passt: Vec<OsString>,
}

/// Serves one VMM until it or passt has ended. `arguments` are those after [`ROLE`]: the path of
/// the socket to listen on, the guest's network such as `10.0.2.0/24`, the addresses in it of its
/// gateway and of its name server (or `-`), what it may reach, the
/// number of the user to be (or `-`), then passt and its arguments.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    sys::set_name(b"smolvm-network\0\0");
    let Arguments { socket, gateway, policy, user, passt } = Arguments::parse(arguments)?;
    let listener = UnixListener::bind(&socket)?;
    let (to_passt, passt_end) = UnixStream::pair()?;
    let passt = start_passt(&passt, &passt_end)?;
    // Else nobody would see that passt has ended.
    drop(passt_end);
    if let Some(user) = user {
        sys::become_user(user)?;
    }
    let (vmm, _) = listener.accept()?;
    let relayed = relay(&vmm, &to_passt, gateway, &policy);
    drop(to_passt);
    end(passt)?;
    relayed
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let mut next = || arguments.next().ok_or_else(|| invalid("an argument is missing"));
        let socket = next()?.into();
        let network = next()?;
        let network = network.to_str().and_then(|network| network.parse::<Network>().ok());
        let network = network.ok_or_else(|| invalid("that is no network"))?;
        let gateway = address(&next()?)?;
        let name_server = next()?;
        let name_server = if name_server == "-" { None } else { Some(address(&name_server)?) };
        let egress = next()?;
        let egress = egress.to_str().and_then(|egress| egress.parse::<Egress>().ok());
        let egress = egress.ok_or_else(|| invalid("that is nothing to reach"))?;
        let user = next()?;
        let user = if user == "-" { None } else { Some(number(&user)?) };
        let passt = arguments.collect();
        Ok(Self { socket, gateway, policy: Policy::new(network, name_server, egress), user, passt })
    }
}

fn address(text: &OsStr) -> io::Result<Ipv4Addr> {
    let address = text.to_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| invalid("that is no IPv4 address"))
}

fn number(text: &OsStr) -> io::Result<u32> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| invalid("that is no user's number"))
}

fn start_passt(arguments: &[OsString], socket: &UnixStream) -> io::Result<Child> {
    let (program, arguments) =
        arguments.split_first().ok_or_else(|| invalid("passt is missing"))?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--fd").arg(PASST_SOCKET.to_string()).stdin(Stdio::null());
    // Numbered so high that it is not in its own way.
    let socket = sys::duplicate(socket.as_raw_fd(), PASST_SOCKET + 1)?;
    let handed = vec![(socket, PASST_SOCKET)];
    sys::prepare_child(&mut command, Preparation { handed, ..Preparation::default() });
    command.spawn()
}

/// Ends passt, which ends by itself when its socket is closed.
fn end(mut passt: Child) -> io::Result<()> {
    let deadline = Instant::now() + PASST_END;
    while passt.try_wait()?.is_none() {
        if Instant::now() > deadline {
            // It is somebody else, whom this process may not be allowed to kill.
            return passt.kill().and_then(|()| passt.wait()).map(drop).or(Ok(()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Carries frames both ways until one side is gone.
fn relay(
    vmm: &UnixStream,
    passt: &UnixStream,
    gateway: Ipv4Addr,
    policy: &Policy,
) -> io::Result<()> {
    // Both directions write to the VMM: what is refused is answered.
    let to_vmm = Mutex::new(vmm);
    let write_to_vmm =
        |frames: &[u8]| to_vmm.lock().unwrap_or_else(PoisonError::into_inner).write_all(frames);
    let close = || {
        // What is closed already needs no closing.
        let _ = vmm.shutdown(Shutdown::Both);
        let _ = passt.shutdown(Shutdown::Both);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            // However it ends, there is nothing more to carry.
            let _ = frames::pump(passt, write_to_vmm, |frame| {
                policy.note(frame);
                Ok(true)
            });
            close();
        });
        let mut to_passt = passt;
        let ended = frames::pump(
            vmm,
            |frames: &[u8]| to_passt.write_all(frames),
            |frame| match policy.judge(frame) {
                Verdict::Pass => Ok(true),
                Verdict::Drop => Ok(false),
                Verdict::Refuse => {
                    if let Some(answer) = refusal::answer(frame, gateway) {
                        write_to_vmm(&answer)?;
                    }
                    Ok(false)
                }
                Verdict::NoSuchName => {
                    if let Some(answer) = refusal::no_such_name(frame) {
                        write_to_vmm(&answer)?;
                    }
                    Ok(false)
                }
            },
        );
        close();
        match ended {
            // Only a frame that is none tells of something that should not be.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
            _ => Ok(()),
        }
    })
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
