//! passt: where it is, what it is told, and whether it works here.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};

use super::error::NetworkError;
use super::{GATEWAY, GATEWAY_MAC, GUEST, MTU, NAME_SERVER, PREFIX};

/// Where passt is.
#[derive(Debug)]
pub(super) struct Passt {
    program: PathBuf,
}

/// How long passt may take to answer; it takes 20 ms.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The number of the socket in passt.
const SOCKET: i32 = 9;
/// What says that passt is not there, and what would help.
const MISSING: &str = "passt is missing. Install the package passt";

impl Passt {
    /// The one of the search path. Where there is none, that shows when it is tried.
    pub(super) fn find() -> Self {
        Self { program: "passt".into() }
    }

    #[cfg(test)]
    pub(super) fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// The program and its arguments, but for the socket: IPv4 alone; no port of the host leads to
    /// the guest, and no address of the guest's stands for the host; names are asked for at
    /// [`NAME_SERVER`] where the host has a name server. The options are those of passt's first
    /// releases.
    pub(super) fn arguments(&self, has_name_server: bool) -> Vec<OsString> {
        let mut arguments = vec![self.program.clone().into_os_string()];
        let mut add = |text: &str| arguments.push(text.into());
        for flag in ["--foreground", "--quiet", "--ipv4-only", "--no-map-gw"] {
            add(flag);
        }
        // A DHCP client in the guest finds what the agent has set up, and changes nothing else.
        for flag in ["--no-dhcp-dns", "--no-dhcp-search"] {
            add(flag);
        }
        let (address, gateway) = (GUEST.to_string(), GATEWAY.to_string());
        for (option, value) in [
            ("--address", address.as_str()),
            ("--netmask", &PREFIX.to_string()),
            ("--gateway", &gateway),
            // It would show the guest the host's own one.
            ("--mac-addr", GATEWAY_MAC),
            ("--mtu", &MTU.to_string()),
            ("--tcp-ports", "none"),
            ("--udp-ports", "none"),
        ] {
            add(option);
            add(value);
        }
        if has_name_server {
            add("--dns-forward");
            add(&NAME_SERVER.to_string());
        }
        arguments
    }
}

/// Whether passt works on this host with these arguments; if not, why not and what would help.
///
/// It may not be allowed to make the namespaces that it hides in, or find no route. It is asked for
/// the gateway's address, as a guest would ask, and answers when it is ready for everything else.
pub(super) fn probe(arguments: &[OsString]) -> Result<Result<(), String>, NetworkError> {
    let program = arguments.first().map(PathBuf::from).unwrap_or_default();
    let failed = |source| NetworkError::Probe { program: program.clone(), source };
    let (mut socket, passt_end) = UnixStream::pair().map_err(failed)?;
    let mut passt = match start(arguments, passt_end) {
        Ok(passt) => passt,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(MISSING.into())),
        Err(error) => return Ok(Err(format!("{} does not start: {error}", program.display()))),
    };
    let answer = ask_for_gateway(&mut socket);
    // It would also end by the end of its socket, but later.
    passt.kill().map_err(failed)?;
    let output = passt.wait_with_output().map_err(failed)?;
    Ok(answer.map_err(|error| {
        let said = last_words(&output.stderr).unwrap_or_else(|| error.to_string());
        format!("passt does not work here: {said}")
    }))
}

fn start(arguments: &[OsString], socket: UnixStream) -> io::Result<Child> {
    let mut arguments = arguments.iter();
    let mut command = Command::new(arguments.next().ok_or(io::ErrorKind::InvalidInput)?);
    command.args(arguments).arg("--fd").arg(SOCKET.to_string());
    let mapping = FdMapping { parent_fd: OwnedFd::from(socket), child_fd: SOCKET };
    command.fd_mappings(vec![mapping]).map_err(|_| io::ErrorKind::InvalidInput)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

/// Sends an ARP request (RFC 826) and waits for its answer.
fn ask_for_gateway(socket: &mut UnixStream) -> io::Result<()> {
    const SENDER: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    const ARP: [u8; 2] = [8, 6];
    const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut request = [[0xff; 6], SENDER].concat();
    request.extend(ARP);
    request.extend(ETHERNET_AND_IPV4);
    request.extend([0, 1]);
    request.extend(SENDER);
    request.extend(GUEST.octets());
    request.extend([0; 6]);
    request.extend(GATEWAY.octets());
    let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
    socket.write_all(&length.to_be_bytes())?;
    socket.write_all(&request)?;

    // Without a guest that sends anything, there is no other frame than the answer.
    let mut answer = [0; 4 + 42];
    socket.read_exact(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::from(io::ErrorKind::TimedOut),
        _ => error,
    })?;
    if answer[16..18] == ARP && answer[32..36] == GATEWAY.octets() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is none"))
    }
}

/// The last lines that passt has said about itself.
fn last_words(said: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(said);
    // Where there is no system log, it tells so after each line.
    let lines = said.lines().filter(|line| !line.is_empty() && !line.contains("to syslog"));
    let mut lines: Vec<_> = lines.collect();
    let last = lines.split_off(lines.len().saturating_sub(2)).join(": ");
    (!last.is_empty()).then_some(last)
}
