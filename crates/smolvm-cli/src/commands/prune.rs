//! `smolvm image prune`: what the cache can do without goes.

use std::fmt::Write as _;

use serde::Serialize;
use smolvm::{Leaving, PruneOptions, Pruned};

use crate::cli::PruneArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::image_object::path_text;
use crate::session::Session;
use crate::signals;
use crate::size;

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    freed_bytes: u64,
    left_bytes: u64,
    items: Vec<Item>,
    in_use: Vec<&'a str>,
}

#[derive(Serialize)]
struct Item {
    path: String,
    what: Leaving,
    freed_bytes: u64,
}

pub(super) fn run(session: &Session<'_>, args: &PruneArgs) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let pruned = manager.prune_with(&options(args), &signals::fetch_options()?)?;
    if !session.options.quiet {
        session.output.text(&describe(&pruned, args));
    }
    let items = pruned.items.iter().map(|item| Item {
        path: path_text(&item.path),
        what: item.what,
        freed_bytes: item.freed_bytes,
    });
    let report = Report {
        dry_run: args.dry_run,
        freed_bytes: pruned.freed_bytes,
        left_bytes: pruned.left_bytes,
        items: items.collect(),
        in_use: pruned.in_use.iter().map(smolvm::ImageName::as_str).collect(),
    };
    session.output.json(&report, None);
    Ok(Exit::Done)
}

fn options(args: &PruneArgs) -> PruneOptions {
    let mut options = PruneOptions::new()
        .dry_run(args.dry_run)
        .unregistered(!args.keep_unregistered)
        .unpinned(args.unpinned);
    if let Some(age) = args.older_than {
        options = options.older_than(age);
    }
    match args.max_size {
        Some(bytes) => options.max_size(bytes),
        None => options,
    }
}

fn describe(pruned: &Pruned, args: &PruneArgs) -> String {
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    // Writing to a String does not fail.
    for item in &pruned.items {
        let (what, path) = (label(item.what), item.path.display());
        let _ = writeln!(text, "{verb} {what} {path} ({})", size::human(item.freed_bytes));
    }
    for name in &pruned.in_use {
        let _ = writeln!(text, "{name} is in use and stays");
    }
    if pruned.items.is_empty() {
        text.push_str("nothing to prune\n");
    } else {
        let freed = size::human(pruned.freed_bytes);
        let _ = writeln!(text, "{freed} {}", if args.dry_run { "would be freed" } else { "freed" });
    }
    if args.max_size.is_some_and(|budget| pruned.left_bytes > budget) {
        let left = size::human(pruned.left_bytes);
        let _ = writeln!(text, "{left} are left, more than was asked for: nothing else may go");
    }
    text
}

fn label(what: Leaving) -> &'static str {
    match what {
        Leaving::Partial => "unfinished transfer",
        Leaving::Temporary => "leaving",
        Leaving::UnregisteredImage => "unregistered image",
        Leaving::UnusedImage => "unused image",
        Leaving::UnpinnedImage => "image without a pin",
        Leaving::LeastRecentlyUsedImage => "least recently used image",
        _ => "item",
    }
}
