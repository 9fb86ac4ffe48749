//! Plans, where passt works and where it does not.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use smolvm_testkit::network::{Namespace, World};
use smolvm_testkit::skip;
use tempfile::tempdir;

use crate::network::passt::Passt;
use crate::network::{
    Attachment, Egress, Mode, NetworkError, NetworkPlan, Uplink, address, plan, user,
};

const NAME_SERVER: Option<Ipv4Addr> = Some(Ipv4Addr::new(9, 9, 9, 9));

/// The notice of a plan whose network leads nowhere.
fn notice_of_restricted(plan: NetworkPlan) -> String {
    let device = plan.device.unwrap();
    assert_eq!(device.uplink, Uplink::Restricted);
    let guest = device.guest.get().unwrap();
    assert_eq!(Some(guest.address), address(Mode::User));
    assert!(guest.dns.is_empty());
    assert!(plan.helpers.is_empty());
    plan.notice.unwrap()
}

/// A program that stands in for a passt that does not work.
fn broken_passt(directory: &Path, script: &str) -> Passt {
    let program = directory.join("passt");
    fs_err::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Passt::at(program)
}

#[test]
fn without_a_network_there_is_nothing() {
    let plan = plan(Mode::None, &Egress::All, Path::new("/nowhere"), Attachment::Any).unwrap();
    assert_eq!(plan, NetworkPlan { device: None, helpers: Vec::new(), notice: None });
    assert_eq!(address(Mode::None), None);
}

#[test]
fn without_passt_the_network_leads_nowhere_and_the_package_is_named() {
    let plan =
        user(Path::new("/run"), &Passt::at("/nowhere/passt"), NAME_SERVER, &Egress::All).unwrap();
    let notice = notice_of_restricted(plan);
    assert!(notice.contains("Install the package passt"), "{notice}");
}

#[test]
fn a_host_without_a_route_is_told_so_in_passts_words() {
    let Some(island) = Namespace::new() else { return };
    let plan = || user(Path::new("/run"), &Passt::find(), NAME_SERVER, &Egress::All).unwrap();
    let notice = notice_of_restricted(island.within(plan));
    assert!(notice.contains("interface"), "{notice}");
    assert!(!notice.contains("syslog"), "{notice}");
}

#[test]
fn a_passt_that_fails_or_hangs_is_no_network() {
    let directory = tempdir().unwrap();
    for (script, said) in [
        ("echo 'no such option' >&2; exit 1", "no such option"),
        ("exit 1", "passt does not work here"),
        ("exec sleep 1000", "timed out"),
        ("head -c 46 /dev/zero >&9; exec sleep 1000", "its answer is none"),
    ] {
        let passt = broken_passt(directory.path(), script);
        let notice = notice_of_restricted(
            user(directory.path(), &passt, NAME_SERVER, &Egress::All).unwrap(),
        );
        assert!(notice.contains(said), "{script}: {notice}");
    }
}

#[test]
fn without_a_name_server_passt_is_not_told_to_ask_one() {
    let Some(world) = World::new() else { return };
    let plan =
        world.host.within(|| user(Path::new("/run"), &Passt::find(), None, &Egress::All).unwrap());
    let notice = plan.notice.unwrap();
    let Some(helper) = plan.helpers.first() else { return skip(&notice) };
    assert!(notice.contains("resolv.conf"), "{notice}");
    assert!(plan.device.unwrap().guest.get().unwrap().dns.is_empty());
    assert!(!helper.argv.iter().any(|argument| argument == "--dns-forward"));
}

#[test]
fn a_socket_that_no_kernel_takes_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    let runtime = Path::new("/run").join("x".repeat(100));
    let plan = world.host.within(|| user(&runtime, &Passt::find(), NAME_SERVER, &Egress::All));
    match plan {
        Ok(plan) => skip(&plan.notice.unwrap()),
        Err(error) => {
            assert!(matches!(error, NetworkError::LongPath { length: 114, .. }), "{error}");
        }
    }
}
