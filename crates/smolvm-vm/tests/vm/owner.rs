//! A program that owns a machine: this test binary, run again, so that it can be killed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use smolvm_vm::{NetworkMode, VmConfig};

use super::backend;
use super::images::{Image, Site};

/// What the owner is to boot: kernel, rootfs, initrd and the directory of machines, separated by
/// the character that no path has.
const ORDER: &str = "SMOLVM_TEST_OWNER";

/// The variable by which the processes of a site are known.
pub(crate) const SITE_MARK: &str = "SMOLVM_TEST_SITE";

/// The variable that names the network of the machine, `user` where there is none.
const NETWORK: &str = "SMOLVM_TEST_NETWORK";

/// Begins what the owner says; the test harness says more on the same stream.
const MARK: &str = "@@";

/// A program that owns a machine. It is killed when dropped.
pub(crate) struct Owner {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Owner {
    /// Starts a program that makes, boots and keeps a machine.
    pub(crate) fn start(image: &Image, site: &Site) -> Self {
        Self::spawn(&mut command(image, site))
    }

    /// As [`start`](Self::start), with sockets and locks in a directory of the site's, and a mark
    /// that every process inherits: all that a machine has can be found by them.
    pub(crate) fn start_apart(image: &Image, site: &Site) -> Self {
        Self::start_with_network(image, site, "user")
    }

    /// As [`start_apart`](Self::start_apart), with a machine of this network.
    pub(crate) fn start_with_network(image: &Image, site: &Site, network: &str) -> Self {
        let mut command = command(image, site);
        command.env("XDG_RUNTIME_DIR", site.runtime_dir()).env(SITE_MARK, site.temp.path());
        Self::spawn(command.env(NETWORK, network))
    }

    /// Ends it by a signal that it does not catch.
    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
        self.child.wait().unwrap();
    }

    /// Has it end in order.
    pub(crate) fn end(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Waits until the machine runs; its id.
    pub(crate) fn booted(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the owner ended");
            if let Some(said) = line.split(MARK).nth(1) {
                return said.trim().to_owned();
            }
        }
    }

    /// Ends it as nothing can prepare for.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program says that makes, boots and drops a machine with other variables.
pub(crate) fn run_alone(image: &Image, site: &Site, variables: &[(&str, &str)]) -> String {
    let mut command = command(image, site);
    let output = command.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn command(image: &Image, site: &Site) -> Command {
    let initrd = image.initrd().unwrap_or_default();
    let order = [image.kernel(), image.rootfs(), initrd, site.vms_dir()]
        .map(|path| path.into_os_string().into_string().unwrap())
        .join("\u{1f}");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["owner::is_run_by_other_tests", "--exact", "--ignored", "--nocapture"]);
    command.env(ORDER, order).stdin(Stdio::piped()).process_group(0);
    command
}

#[test]
#[ignore = "an entry point that other tests run"]
fn is_run_by_other_tests() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let [kernel, rootfs, initrd, vms_dir] =
        order.split('\u{1f}').map(PathBuf::from).collect::<Vec<_>>().try_into().unwrap();
    let mut config = VmConfig::new(kernel, rootfs).vms_dir(vms_dir);
    if !initrd.as_os_str().is_empty() {
        config = config.initrd(initrd);
    }
    if std::env::var(NETWORK).is_ok_and(|network| network == "tap") {
        config = config.network(NetworkMode::Tap);
    }
    match backend::boot(config) {
        Ok(vm) => {
            println!("{MARK}{}", vm.id());
            // Until the other test ends it, by whatever means.
            let _ = std::io::stdin().lines().count();
        }
        Err(error) => println!("{MARK}{error}"),
    }
}
