//! A supervisor whose guest goes on from a snapshot.

use std::io::Read as _;

use smolvm_protocol::{Reply, Succession};
use smolvm_supervisor::control::Setting;

use crate::guest::{Vm, welcome};
use crate::rig::{Place, eventually};

#[test]
fn the_session_of_the_snapshot_is_taken_over_and_the_new_one_is_told_of() {
    let place = Place::new();
    let mut vm = Vm::start_with(&place, "vm", vec![Setting::Succeeds([7; 16])]);
    let mut mark = [0; Succession::LENGTH];
    vm.guest.channel.read_exact(&mut mark).unwrap();
    assert_eq!(mark, Succession { nonce: [7; 16] }.encode());
    assert_eq!(vm.supervisor.state().session, None);

    let preamble = vm.guest.preamble();
    vm.guest.answer(preamble);
    assert_eq!(vm.visitor().welcome(), Reply::Welcome(welcome()));
    eventually("the state says so", || vm.supervisor.state().session == Some(preamble.nonce));
    assert_ne!(preamble.nonce, [7; 16]);

    vm.end();
    assert_eq!(vm.supervisor.state().session, None);
    vm.supervisor.delete();
}
