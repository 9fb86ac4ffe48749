//! One attempt: from the start of a VMM to a guest that knows its time and address.

use std::time::Duration;

use super::failure::Failed;
use super::{Boot, NETWORK_NOTICE, Origin, tell_once};
use crate::backend::Variant;
use crate::error::VmError;
use crate::network::{self, GuestNetwork, NetworkPlan};
use crate::session::Session;
use crate::supervisor::Program;

/// The guest's network, as its agent is told of it.
fn for_agent(guest: &GuestNetwork, host_name: &str) -> smolvm_protocol::Network {
    smolvm_protocol::Network {
        address: guest.address,
        prefix: guest.prefix,
        gateway: Some(guest.gateway),
        name_servers: guest.dns.clone(),
        mtu: guest.mtu,
        host_name: host_name.to_owned(),
    }
}

impl Boot<'_> {
    /// One start of a VMM, up to the agent's answer.
    pub(super) fn attempt(&self, variant: Variant) -> Result<Session, Failed> {
        let record = &self.machine.record;
        let network = network::plan(
            record.network.into(),
            &record.egress.0,
            &self.vm.dirs.runtime,
            self.backend.attachment(),
        )
        .map_err(|error| Failed::ForGood(error.into()))?;
        tell_once(&NETWORK_NOTICE, network.notice.as_deref());
        let mut programs = Vec::new();
        for helper in &network.helpers {
            programs.push(Program::helper(helper.argv.clone(), helper.wait_for_socket.clone()));
        }
        let spec = self.spec(variant, &network);
        let program = self.vmm.program(&spec, &self.endowment(&network));
        let program = program.map_err(|error| Failed::ForGood(error.into()))?;
        programs.push(match self.origin {
            Origin::Kernel => program,
            Origin::Snapshot(source) => source.settings().into_iter().fold(program, Program::with),
        });
        let launched = self.supervisor.launch(&programs);
        launched.map_err(|source| {
            Failed::ForGood(VmError::Supervisor { id: self.vm.id.to_string(), source })
        })?;

        let gives_up =
            || self.cancel.is_cancelled() || self.supervisor.wait_ended(Duration::ZERO).is_some();
        let switched_on = match self.origin {
            Origin::Kernel => {
                let switched_on = self.vmm.switch_on(&spec, &self.vm.dirs, self.deadline, gives_up);
                switched_on.map_err(|error| self.refused(error))
            }
            Origin::Snapshot(source) => {
                let loaded = source.load(&self.vm.dirs, self.deadline, gives_up);
                loaded.map_err(|failed| self.not_loaded(source, failed))
            }
        };
        switched_on.map_err(Failed::ForGood)?;
        let socket = self.vm.dirs.agent_socket();
        match Session::connect_unless(&socket, self.deadline, self.cancel) {
            Ok(session) => {
                self.set_up(&session.cancelled_by(self.cancel), &network)
                    .map_err(Failed::ForGood)?;
                Ok(session)
            }
            Err(error) => Err(self.why(error)),
        }
    }

    /// Tells the guest the time and its address. One of a snapshot has the random numbers of all
    /// others of that before it is given others, first of all.
    fn set_up(&self, session: &Session, network: &NetworkPlan) -> Result<(), VmError> {
        if matches!(self.origin, Origin::Snapshot(_)) {
            session.reseed().map_err(|source| self.vm.session_error(source))?;
        }
        session.set_time().map_err(|source| self.vm.session_error(source))?;
        if let Some(device) = &network.device {
            let network = for_agent(&device.guest.get()?, self.vm.id.as_str());
            session.set_network(&network).map_err(|source| self.vm.session_error(source))?;
        }
        Ok(())
    }
}
