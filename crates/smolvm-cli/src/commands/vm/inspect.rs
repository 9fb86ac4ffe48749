//! `smolvm vm inspect`: all that is known of a VM.

use std::fmt::Write as _;

use smolvm::SmolVm;

use super::One;
use crate::session::Session;

pub(super) fn run(session: &Session<'_>, vm: &SmolVm) {
    let info = vm.info();
    session.output.json(&One { vm: &info }, None);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("id", info.id);
    line("state", info.state.to_string());
    if let Some(ended) = info.ended {
        line("ended", ended);
    }
    if let Some(process) = info.process {
        line("process", process.to_string());
    }
    line("backend", info.backend.to_string());
    line("address", info.address.map_or_else(|| "none".to_owned(), |a| a.to_string()));
    line("memory", format!("{} MiB", info.mem_size_mib));
    if let Some(count) = info.vcpu_count {
        line("processors", count.to_string());
    }
    line("kernel", info.kernel.display().to_string());
    line("rootfs", info.rootfs.display().to_string());
    line("directory", info.directory.display().to_string());
    session.output.text(&text);
}
