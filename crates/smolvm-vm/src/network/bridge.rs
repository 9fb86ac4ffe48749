//! The same network for a VMM that knows tap devices alone: a namespace of the VM's own, in which
//! its tap leads to the filter.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::{env, io};

use super::error::NetworkError;
use super::{HelperProgram, MTU, NetworkPlan, Uplink, check_length, tap_owner};
use crate::supervisor::executable;

/// The name of the tap device, in the VM's own network namespace.
const TAP: &str = "tap0";
/// The name of the socket in a VM's runtime directory by which it is seen that all is there.
const SOCKET: &str = "bridge.sock";
/// What the supervisor's program is told to be.
const ROLE: &str = "bridge";

/// Has the device of a plan for the network `user` be a tap, and adds the program that leads its
/// frames to where they go in the plan.
pub(super) fn on_tap(plan: NetworkPlan, runtime: &Path) -> Result<NetworkPlan, NetworkError> {
    let Some(device) = plan.device else { return Ok(plan) };
    let filter = match device.uplink {
        Uplink::Filter { socket } => Some(socket),
        Uplink::Restricted => None,
        Uplink::Tap { .. } => return Ok(NetworkPlan { device: Some(device), ..plan }),
    };
    let socket = runtime.join(SOCKET);
    check_length(&socket)?;
    let mut argv: Vec<OsString> = vec!["/proc/self/exe".into(), ROLE.into(), (&socket).into()];
    argv.push(filter.map_or("-".into(), OsString::from));
    argv.push(MTU.to_string().into());
    argv.push(tap_owner(runtime));
    let mut helpers = plan.helpers;
    helpers.push(HelperProgram { argv, wait_for_socket: socket });
    let device = super::Device { uplink: Uplink::Tap { name: TAP }, ..device };
    Ok(NetworkPlan { device: Some(device), helpers, ..plan })
}

/// Why there can be no such network here, if that is so. All of it is made once to see that; this
/// process remembers the answer.
pub(crate) fn obstacle() -> Option<NetworkError> {
    static KNOWN: OnceLock<Result<(), String>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| probe().unwrap_or_else(|error| Err(error.to_string())));
    known.as_ref().err().map(|reason| NetworkError::Namespace { reason: reason.clone() })
}

fn probe() -> io::Result<Result<(), String>> {
    let child = executable::start(&env::temp_dir(), |program| {
        let mut command = std::process::Command::new(program);
        command.arg(ROLE);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    })?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Err(said.lines().next_back().unwrap_or("nobody says why").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_told_with_a_remedy() {
        match obstacle() {
            None => {}
            Some(error) => assert!(error.to_string().contains("Run as root"), "{error}"),
        }
    }
}
