//! What a guest could do that has taken Firecracker over, where root runs it: looked at from the
//! outer machine while a guest runs, and after each of the programs was killed.

use crate::Outer;

/// A line that prints the process of this name, and fails where there is none.
fn process(name: &str) -> String {
    format!("grep -lx {name} /proc/[0-9]*/comm 2> /dev/null | head -n 1 | grep -o '[0-9]*'")
}

/// The jail of the only machine that runs.
pub(crate) fn looks(outer: &Outer) {
    let vmm = outer.good(&process("firecracker"));
    let vmm = format!("/proc/{}", vmm.trim());
    let status = outer.good(&format!("cat {vmm}/status"));
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let user = value("Uid").split(' ').next().unwrap().to_owned();
    assert!(user.parse::<u32>().unwrap() >= 0x7000_0000, "{user}");
    assert_eq!(value("Uid"), [user.as_str(); 4].join(" "));
    assert_eq!(value("Gid"), [user.as_str(); 4].join(" "));
    assert_eq!(value("Groups"), "");
    assert_eq!(value("CapPrm"), "0000000000000000");
    assert_eq!(value("CapEff"), "0000000000000000");
    assert_eq!(value("NoNewPrivs"), "1");
    assert_eq!(value("Seccomp"), "2");

    // Its root is the jail, which has what it needs; what only its start needed is given back. It
    // can make no file where this host looks for its sockets, and none on the host's disks.
    let names = outer.good(&format!("ls {vmm}/root | tr '\\n' ' '"));
    assert_eq!(names, "base dev disk files firecracker firecracker.pid initrd kernel run vmm.log ");
    let sizes = outer.good(&format!("cd {vmm}/root && stat -c %s kernel initrd | tr '\\n' ' '"));
    assert_eq!(sizes, "0 0 ");
    let owners = format!("stat -c '%u %a' {vmm}/root/run {vmm}/root/files /run/smolvm/*/vmm");
    assert_eq!(outer.good(&owners), "0 711\n".repeat(3));
    let image = "stat -c '%u %a' ~/.smolvm/images/tiny/rootfs.ext4";
    assert_eq!(outer.good(image), "0 400\n");
    let own = "for kind in mnt net ipc uts pid; do \
               test \"$(readlink $vmm/ns/$kind)\" != \"$(readlink /proc/1/ns/$kind)\" || exit 1; done";
    outer.good(&format!("vmm={vmm}; {own}"));

    // Nor does the keeper see the host any more.
    let keeper = outer.good(&process("smolvm-jail"));
    assert_eq!(outer.good(&format!("ls /proc/{}/root", keeper.trim())), "firecracker\n");

    // What it may cost. The kernel holds it to that.
    let group = outer.good(&format!("sed -n 's/^0:://p' {vmm}/cgroup"));
    assert!(group.starts_with("/smolvm/"), "{group}");
    let group = format!("/sys/fs/cgroup{}", group.trim());
    let limits = outer.good(&format!("cd {group} && cat cpu.max memory.max pids.max"));
    let memory = (256 + 256) << 20;
    assert_eq!(limits, format!("200000 100000\n{memory}\n129\n"));
    let limits = outer.good(&format!("grep -E 'file size|open files' {vmm}/limits"));
    assert!(!limits.contains("unlimited") && limits.contains("2048"), "{limits}");
}

/// A machine whose VMM takes more memory than it may have ends, and nothing else does.
pub(crate) fn takes_too_much_memory(outer: &Outer) {
    let hog = "echo $$ > $(echo /sys/fs/cgroup/smolvm/*/cgroup.procs); \
               exec dd if=/dev/zero of=/dev/null bs=600M count=1";
    assert_eq!(outer.run(&format!("sh -c '{hog}'")).exit_code, 128 + 9);
    outer.good("dmesg | grep -q 'oom-kill:constraint=CONSTRAINT_MEMCG'");
}

/// Nothing is left of a machine that boots, whether its owner or its supervisor is killed.
pub(crate) fn killed(outer: &Outer) {
    let options = "--backend firecracker --net none --mem 256 --cpus 1";
    for (which, code, sweep) in [
        (process("smolvm-supervis"), "125", "smolvm vm ls > /dev/null"),
        ("echo $owner".to_owned(), "137", "true"),
    ] {
        let line = format!(
            "smolvm -q run tiny {options} -- true & owner=$!; \
             until {}; do sleep 0.1; done; sleep 1; kill -9 $({which}); wait $owner; echo $?",
            process("firecracker"),
        );
        let result = outer.run(&line);
        assert_eq!(result.stdout().lines().last(), Some(code));
        let programs = "firecracker|jailer|smolvm-jail|smolvm-supervis";
        outer.good(&format!(
            "while cat /proc/[0-9]*/comm 2> /dev/null | grep -Ex '{programs}'; do sleep 0.1; done"
        ));
        outer.good(&format!("{sweep}; test -z \"$(ls ~/.smolvm/vms)\""));
        assert_eq!(outer.good("ls /run/smolvm"), "boot-slots\n");
        outer.good("test -z \"$(ls -d /sys/fs/cgroup/smolvm/*/ 2> /dev/null)\"");
        outer.good("! grep -h smolvm /proc/[0-9]*/mountinfo");
    }
}

/// Whoever is not root has no jail, and the limits that need no privileges. Firecracker is chosen by
/// itself where it is there, KVM works, and the machine has no network.
pub(crate) fn of_an_ordinary_user(outer: &Outer) {
    outer.good("install -d -o 65534 -g 65534 /home/nobody && chmod 666 /dev/kvm /dev/net/tun");
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/home/nobody smolvm";
    let doctor = outer.run(&format!("{user} doctor")).stdout().into_owned();
    assert!(doctor.contains("/opt/firecracker 1.12") && !doctor.contains("jailed"), "{doctor}");
    outer.good(&format!("{user} -q vm create tiny --id its --net none --mem 256 --cpus 1"));
    outer.good(&format!("{user} -q vm start its --boot-timeout 240"));
    let vmm = outer.good(&process("firecracker"));
    let vmm = format!("/proc/{}", vmm.trim());
    let status = outer.good(&format!("grep -E '^(Uid|NoNewPrivs)' {vmm}/status"));
    assert!(status.contains("65534") && status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = outer.good(&format!("grep -E 'file size|open files|core' {vmm}/limits"));
    assert!(!limits.contains("unlimited") && limits.contains("2048"), "{limits}");
    let line = format!("{user} vm exec its -- sh -c 'echo w > /root/w && cat /proc/cmdline'");
    assert!(outer.good(&line).contains("pci=off"));
    let result = outer.run(&format!("{user} vm snapshot its /home/nobody/snapshot"));
    assert_eq!(result.exit_code, 1);
    assert!(result.stderr().contains("without a jail, its sockets are"));
    outer.good(&format!("{user} -q vm rm its"));
    outer.good("test -z \"$(ls /home/nobody/.smolvm/vms)\"");
}

/// Without a jailer root runs nothing on Firecracker, unless it says so.
pub(crate) fn missing(outer: &Outer) {
    for (settings, reason) in [
        ("SMOLVM_JAILER=/nowhere", "Firecracker's jailer is missing: there is no /nowhere"),
        ("SMOLVM_JAILER=/bin/true", "Firecracker cannot be put into a jail: /bin/true: it says"),
    ] {
        let line =
            format!("{settings} smolvm -q run tiny --backend firecracker --net none -- true");
        let result = outer.run(&line);
        assert_eq!(result.exit_code, 125, "{reason}");
        assert!(result.stderr().contains(reason), "{reason}");
        assert!(result.stderr().contains("SMOLVM_JAILER=none"));
    }
    let doctor = outer.run("SMOLVM_JAILER=none smolvm doctor").stdout().into_owned();
    assert!(doctor.contains("/opt/firecracker 1.12") && !doctor.contains("jailed"), "{doctor}");
}
