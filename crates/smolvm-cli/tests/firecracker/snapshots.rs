//! A machine on Firecracker that stands still, and machines that go on from a snapshot of it.

use crate::Outer;

/// It stands still until it is resumed, and nobody waits for it meanwhile.
pub(crate) fn stands_still(outer: &Outer, id: &str) {
    outer.good(&format!("smolvm vm pause {id}"));
    assert!(outer.good("smolvm vm ls").contains("paused"));
    let result = outer.run(&format!("smolvm vm exec {id} -- true"));
    assert_eq!(result.exit_code, 125);
    assert!(result.stderr().contains("it is paused. Resume it first"));
    outer.good(&format!("smolvm vm resume {id}"));
}

/// It is snapshotted and goes on; so do two others, each by itself.
pub(crate) fn go_on(outer: &Outer, id: &str) {
    let line = "echo before > /root/file; sleep 12345 > /dev/null 2>&1 < /dev/null & \
                date -s @1000000000 > /dev/null";
    outer.good(&format!("smolvm vm exec {id} -- sh -c '{line}'"));
    outer.good(&format!("smolvm vm snapshot {id} /opt/snapshot"));
    let files = outer.good("ls /opt/snapshot");
    assert!(files.starts_with("disk.") && files.ends_with("\nmemory\nsnapshot.json\nstate\n"));
    // What is zero takes no room.
    let kibibytes: u64 =
        outer.good("du -k /opt/snapshot/memory | cut -f 1").trim().parse().unwrap();
    assert!(kibibytes < 200 << 10, "{kibibytes} KiB of 256 MiB");
    // Nothing is left beside it, and the machine itself goes on.
    assert_eq!(outer.good(&format!("ls -A ~/.smolvm/vms/{id}/vmm")), "");
    let look =
        "cat /root/file; ps | grep -c \"[s]leep 12345\"; head -c 16 /dev/urandom | od -An -tx1";
    let original =
        outer.good(&format!("smolvm vm exec {id} -- sh -c '{look}; echo after > /root/file'"));
    assert!(original.starts_with("before\n1\n"), "{original}");

    let mut random = vec![original];
    for name in ["second", "third"] {
        outer.good(&format!("smolvm vm restore /opt/snapshot --id {name} --timeout 240"));
        let line = format!("smolvm vm exec {name} -- sh -c '{look}; sync'");
        let said = outer.good(&line);
        assert!(said.starts_with("before\n1\n"), "{said}");
        assert!(!random.contains(&said), "{random:?}");
        random.push(said);
        let year = outer.good(&format!("smolvm vm exec {name} -- date +%Y"));
        assert!(year.trim().parse::<u32>().unwrap() > 2024, "{year}");
    }
    assert_eq!(outer.processes("firecracker"), 3);
    // What the memory was read from takes no room once the machine has ended.
    assert_eq!(outer.good("ls -A ~/.smolvm/vms/second/vmm"), "");
    // One that was paused stays so, and its agent is reached when it is resumed.
    outer.good("smolvm vm pause third && smolvm vm snapshot third /opt/still");
    assert_eq!(outer.good("smolvm vm ls | grep -c paused"), "1\n");
    outer.good("smolvm vm resume third && rm -r /opt/still");
    assert_eq!(outer.good("smolvm vm exec third -- cat /root/file"), "before\n");
    outer.good("smolvm vm stop second --timeout 60; smolvm vm rm second third");
    assert_eq!(outer.processes("firecracker"), 1);
    let result = outer.run("SMOLVM_JAILER=none smolvm vm restore /opt/snapshot --id fourth");
    assert_eq!(result.exit_code, 1);
    assert!(result.stderr().contains("and here is Firecracker without one"));
    for file in ["memory", "state"] {
        let path = format!("/opt/snapshot/{file}");
        let line =
            format!("cp {path} /opt/kept && printf xyz | dd of={path} bs=1 seek=4999 conv=notrunc");
        outer.good(&line);
        let result = outer.run("smolvm vm restore /opt/snapshot --id fourth --timeout 240");
        assert_eq!(result.exit_code, 4);
        assert!(result.stderr().contains(&format!("{path} is not as it was")));
        outer.good(&format!("cp /opt/kept {path}"));
    }
    assert_eq!(outer.good("ls ~/.smolvm/vms"), format!("{id}\n"));
    outer.good("rm -r /opt/snapshot /opt/kept");
    assert_eq!(outer.processes("firecracker"), 1);
}
