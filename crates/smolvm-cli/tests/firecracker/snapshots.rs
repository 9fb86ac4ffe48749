//! A machine on Firecracker that stands still.

use crate::Outer;

/// It stands still until it is resumed, and nobody waits for it meanwhile.
pub(crate) fn stands_still(outer: &Outer, id: &str) {
    outer.good(&format!("smolvm vm pause {id}"));
    assert!(outer.good("smolvm vm ls").contains("paused"));
    let result = outer.run(&format!("smolvm vm exec {id} -- true"));
    assert_eq!(result.exit_code, 125);
    assert!(result.stderr().contains("it is paused. Resume it first"));
    outer.good(&format!("smolvm vm resume {id}"));
    let result = outer.run(&format!("smolvm vm snapshot {id} /tmp/snapshot"));
    assert_eq!(result.exit_code, 1);
    assert!(result.stderr().contains("snapshots are QEMU's alone here"));
}
