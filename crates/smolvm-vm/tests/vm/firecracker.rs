//! The same tests on real Firecracker, in a machine that has KVM: that of [`Outer`].

use super::images::TINY;
use super::outer::Outer;

/// What a guest reaches and what it does not, the addresses of machines that go on from a snapshot,
/// and what is left of machines that end: the tests of QEMU, word for word.
#[test]
fn networks_on_real_firecracker_are_those_on_qemu() {
    let Some(outer) = Outer::boot(&[TINY], &[], 1536) else { return };
    outer.run_tests(
        &[
            "egress::a_guest_of_a_user_network_that_tries_to_get_out",
            "egress::a_guest_with_a_tap_that_tries_to_get_out",
            "snapshots::machines_of_one_snapshot_have_addresses_of_their_own",
        ],
        &[],
    );
    outer.run_tests(
        &["remains::machines_that_end_in_every_way_leave_nothing"],
        &[("SMOLVM_TEST_KILLS", "2")],
    );
    // Nobody is left, whoever started it.
    outer.good("! cat /proc/[0-9]*/comm | grep -E '^(firecracker|passt|smolvm)'");
    assert_eq!(outer.good("ls /sys/class/net"), "lo\n");
    assert_eq!(outer.good("nft list ruleset"), "");
    assert_eq!(outer.good("ls /run/smolvm"), "boot-slots\ntap\n");
}
