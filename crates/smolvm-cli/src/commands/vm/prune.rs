//! `smolvm vm prune`: VMs that nobody needs any more go.

use std::fmt::Write as _;

use serde::Serialize;
use smolvm::{PrunedVms, VmLeaving, VmPruneOptions};

use crate::cli::VmPruneArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::image_object::path_text;
use crate::session::Session;
use crate::size;

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    freed_bytes: u64,
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    path: String,
    what: VmLeaving,
    freed_bytes: u64,
}

pub(super) fn run(session: &Session<'_>, args: &VmPruneArgs) -> Result<Exit, Failure> {
    let mut options = VmPruneOptions::new().dry_run(args.dry_run);
    if let Some(age) = args.older_than {
        options = options.older_than(age);
    }
    let pruned = session.vms()?.prune(&options)?;
    if !session.options.quiet {
        session.output.text(&describe(&pruned, args.dry_run));
    }
    let items = pruned.items.iter().map(|item| Item {
        path: path_text(&item.path),
        what: item.what,
        freed_bytes: item.freed_bytes,
    });
    let (dry_run, freed_bytes) = (args.dry_run, pruned.freed_bytes);
    session.output.json(&Report { dry_run, freed_bytes, items: items.collect() }, None);
    Ok(Exit::Done)
}

fn describe(pruned: &PrunedVms, dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    // Writing to a String does not fail.
    for item in &pruned.items {
        let what = match item.what {
            VmLeaving::Leftover => "leavings",
            _ => "stopped VM",
        };
        let (path, freed) = (item.path.display(), size::human(item.freed_bytes));
        let _ = writeln!(text, "{verb} {what} {path} ({freed})");
    }
    if pruned.items.is_empty() {
        text.push_str("nothing to prune\n");
    } else {
        let freed = size::human(pruned.freed_bytes);
        let _ = writeln!(text, "{freed} {}", if dry_run { "would be freed" } else { "freed" });
    }
    text
}
