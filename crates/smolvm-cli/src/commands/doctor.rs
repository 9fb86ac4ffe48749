//! `smolvm doctor`: what this host has and lacks.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use smolvm::{HostCheck, HostStatus, ImageManager, PruneOptions};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::size;
use crate::style;
use crate::terminal::printable;

#[derive(Serialize)]
struct Examined<'a> {
    checks: &'a [HostCheck],
}

pub(super) fn run(session: &Session<'_>) -> Exit {
    let mut checks = smolvm::check_host();
    checks.extend(fetching(session));
    for check in &checks {
        session.output.text(&line(check));
    }
    let missing: Vec<_> =
        checks.iter().filter(|check| check.status == HostStatus::Missing).collect();
    if missing.is_empty() {
        session.output.json(&Examined { checks: &checks }, None);
        return Exit::Done;
    }
    let failure = Failure::host(&missing.iter().map(|check| check.what).collect::<Vec<_>>());
    session.output.json(&Examined { checks: &checks }, Some(&failure));
    failure.exit
}

/// What fetching needs.
fn fetching(session: &Session<'_>) -> Vec<HostCheck> {
    let manager = match session.manager() {
        Ok(manager) => manager,
        Err(failure) => {
            let remedy = "Correct the registry file, or leave it out";
            return vec![HostCheck::missing("registry", failure.message, remedy), vms(session)];
        }
    };
    let count = manager.list_available().len();
    let registry = HostCheck::good("registry", format!("{count} images are known"));
    vec![registry, images(&manager), vms(session)]
}

/// The disk that the images are on. Nothing is made or removed.
fn images(manager: &ImageManager) -> HostCheck {
    let (directory, options) = (manager.cache_dir(), PruneOptions::new().dry_run(true));
    let found = match manager.prune_with(&options, &smolvm::FetchOptions::new()) {
        Ok(pruned) => {
            let used = size::human(pruned.left_bytes + pruned.freed_bytes);
            let least = size::human(pruned.freed_bytes);
            format!("images take {used} of it, of which `smolvm image prune` frees {least}")
        }
        Err(error) => format!("what images take is not known: {error}"),
    };
    let remedy = "Free some: smolvm image prune --older-than 30d";
    disk("image disk", directory, &found, remedy)
}

/// The disk that the VMs are on.
fn vms(session: &Session<'_>) -> HostCheck {
    match session.vms() {
        Ok(vms) => {
            let used = size::human(vms.disk_usage());
            let found = format!("VMs take {used} of it; `smolvm vm prune` removes old ones");
            let remedy = "Free some: smolvm vm prune --older-than 7d";
            disk("VM disk", vms.directory(), &found, remedy)
        }
        Err(failure) => HostCheck::missing("VM disk", failure.message, "Name another: --vms-dir"),
    }
}

/// How much room there is where this directory is, or will be.
fn disk(what: &'static str, directory: &Path, used: &str, remedy: &str) -> HostCheck {
    /// A kernel, a root file system and the disk of a VM.
    const FEW: u64 = 1 << 30;
    let place = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let found = |free: &str| format!("{free} free in {}; {used}", directory.display());
    match rustix::fs::statvfs(place) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = found(&format!("{} are", size::human(free)));
            if free < FEW {
                HostCheck::limited(what, found, remedy)
            } else {
                HostCheck::good(what, found)
            }
        }
        Err(error) => {
            HostCheck::limited(what, found(&format!("nobody knows what is ({error})")), remedy)
        }
    }
}

fn line(check: &HostCheck) -> String {
    let (style, word) = match check.status {
        HostStatus::Good => (style::GOOD, "good"),
        HostStatus::Limited => (style::WARNING, "limited"),
        _ => (style::ERROR, "missing"),
    };
    let word = style::paint(style, &format!("{word:<8}"));
    let mut text = format!("{word} {:<14} {}\n", check.what, printable(&check.found));
    if let Some(remedy) = &check.remedy {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:23} {}", "", printable(remedy));
    }
    text
}
