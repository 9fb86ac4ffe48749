//! What a guest's kernel is given to make random numbers of.

use std::collections::BTreeSet;
use std::sync::mpsc;

use smolvm_protocol::{Failure, FailureKind, Reply, Request};

use super::guest::Guest;
use crate::session::SessionError;

/// Machines of one snapshot share what their kernels hold, and are to share nothing of what comes.
#[test]
fn no_two_guests_are_given_the_same_seed() {
    let (tell, told) = mpsc::channel();
    let guest = Guest::answering(move |line, channel, request| {
        let Request::Reseed(seed) = request else { panic!("{request:?}") };
        tell.send(seed).unwrap();
        line.say(channel, &Reply::Done);
    });
    let session = guest.session();
    let mut parts = BTreeSet::new();
    for session in [&session, &session, &guest.session()] {
        session.reseed().unwrap();
        let seed = told.recv().unwrap();
        assert_eq!(seed.len(), 64);
        // No part of it is left as it was made, or made twice.
        for part in seed.chunks(8) {
            assert!(parts.insert(part.to_vec()) && part != [0; 8], "{seed:?}");
        }
    }
}

#[test]
fn a_guest_that_does_not_take_its_seed_is_not_overlooked() {
    let guest = Guest::answering(|line, channel, _| {
        let message = "the guest's random numbers stay as they are".into();
        line.say(channel, &Reply::Failed(Failure { kind: FailureKind::Other, message }));
    });
    let error = guest.session().reseed().unwrap_err();
    assert!(matches!(error, SessionError::Guest { .. }), "{error}");
    assert!(error.to_string().contains("stay as they are"), "{error}");
}
