//! What begins when the host opens a channel, and what all sessions share for that.

use std::fs::File;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use smolvm_protocol::{Failure, FailureKind, PowerOff, Reply, Request};

use super::Guest;
use super::channel::{Channel, Replies};
use super::command;
use super::connection::Connection;
use super::copy::get::Get;
use super::copy::put::Put;
use super::failure::failed;
use super::machine::Machine;
use super::outbox::Outbox;
use super::settle::Settle;
use crate::sys::launch::Restored;

/// What all sessions share.
pub(super) struct Shared {
    pub(super) guest: Guest,
    pub(super) restored: Restored,
    pub(super) machine: Machine,
    /// The guest's address in its network, once it has one.
    pub(super) address: Option<IpAddr>,
    /// How the guest is to end, once that was asked for.
    pub(super) ending: Option<PowerOff>,
    /// Memory to read into, from hosts.
    pub(super) input: Vec<u8>,
    /// Memory to read into, from all else.
    pub(super) buffer: Vec<u8>,
    /// What background processes may still write to although nobody reads it.
    pub(super) leftovers: Vec<Rc<File>>,
}

/// Begins what the host asks for. Where that is done already, or cannot be done: the answer.
pub(super) fn opened(
    request: Request,
    shared: &mut Shared,
    outbox: &mut Outbox,
    number: u32,
) -> Result<Box<dyn Channel>, Reply> {
    let mut replies = Replies::new(number, outbox, &mut shared.buffer);
    let answer =
        |result: Result<(), Failure>| Err(result.map_or_else(Reply::Failed, |()| Reply::Done));
    match request {
        Request::Exec(exec) => command::start(&exec, shared.restored, &mut replies),
        Request::Put(path) => Ok(Box::new(Put::start(&path))),
        Request::Get(path) => match Get::start(&path) {
            Ok(get) => Ok(Box::new(get)),
            Err(failure) => Err(Reply::Failed(failure)),
        },
        Request::Connect(port) => match Connection::start(port, shared.address) {
            Ok(connection) => Ok(Box::new(connection)),
            Err(failure) => Err(Reply::Failed(failure)),
        },
        Request::SetTime(nanos) => answer(shared.machine.set_time(Duration::from_nanos(nanos))),
        Request::SetNetwork(network) => {
            shared.address = Some(network.address);
            answer(shared.machine.set_network(&network))
        }
        Request::PowerOff(how) => {
            shared.ending.get_or_insert(how);
            Err(Reply::Done)
        }
        Request::Settle => match Settle::start(shared.guest, shared.restored) {
            Some(settle) => Ok(Box::new(settle)),
            None => Err(Reply::Done),
        },
        Request::Ping => Err(Reply::Done),
        Request::Reseed(seed) => answer(shared.machine.reseed(&seed)),
        _ => Err(failed(FailureKind::Unsupported, "the agent does not know how to do that")),
    }
}
