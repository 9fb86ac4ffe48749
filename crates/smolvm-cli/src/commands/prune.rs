//! `smolvm image prune`: what the cache can do without goes.

use std::fmt::Write as _;

use serde::Serialize;
use smolvm::{Leaving, Pruned};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::image_object::path_text;
use crate::session::Session;
use crate::signals;
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
    what: Leaving,
    freed_bytes: u64,
}

pub(super) fn run(session: &Session<'_>, dry_run: bool) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let pruned = manager.prune(dry_run, &signals::fetch_options()?)?;
    if !session.options.quiet {
        session.output.text(&describe(&pruned, dry_run));
    }
    let items = pruned.items.iter().map(|item| Item {
        path: path_text(&item.path),
        what: item.what,
        freed_bytes: item.freed_bytes,
    });
    let items = items.collect();
    session.output.json(&Report { dry_run, freed_bytes: pruned.freed_bytes, items }, None);
    Ok(Exit::Done)
}

fn describe(pruned: &Pruned, dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for item in &pruned.items {
        let (what, path) = (label(item.what), item.path.display());
        // Writing to a String does not fail.
        let _ = writeln!(text, "{verb} {what} {path} ({})", size::human(item.freed_bytes));
    }
    let freed = size::human(pruned.freed_bytes);
    match (pruned.items.is_empty(), dry_run) {
        (true, _) => "nothing to prune\n".to_owned(),
        (false, true) => format!("{text}{freed} would be freed\n"),
        (false, false) => format!("{text}{freed} freed\n"),
    }
}

fn label(what: Leaving) -> &'static str {
    match what {
        Leaving::Partial => "unfinished transfer",
        Leaving::Temporary => "leaving",
        Leaving::UnregisteredImage => "unregistered image",
        _ => "item",
    }
}
