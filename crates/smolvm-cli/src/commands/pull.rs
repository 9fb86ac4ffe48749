//! `smolvm image pull`: images are cached and whole when it ends.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use smolvm::{AssetKind, AssetReport, Digest, FetchOptions, ImageManager};

use super::each;
use crate::cli::PullArgs;
use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::image_object::path_text;
use crate::progress::{AssetTally, Outcome, Progress, Tally};
use crate::session::Session;
use crate::settings::{self, Durability};
use crate::signals;
use crate::size;
use crate::style;

/// An image that is ready for use.
#[derive(Serialize)]
struct Pulled {
    directory: String,
    boot_args: Option<String>,
    elapsed_ms: u128,
    assets: Vec<PulledAsset>,
}

/// One asset of it, and how it was had.
#[derive(Serialize)]
struct PulledAsset {
    kind: AssetKind,
    path: String,
    digest: Option<Digest>,
    size: Option<u64>,
    pinned: bool,
    outcome: Outcome,
    received: u64,
    retries: u32,
    /// What was wrong with the file that was replaced.
    damage: Option<String>,
    shared_from: Option<String>,
}

pub(super) fn run(session: &Session<'_>, args: &PullArgs) -> Result<Exit, Failure> {
    let durability = if args.sync { Durability::Synced } else { Durability::Unsynced };
    let manager = settings::manager(session.options, durability)?;
    let options = signals::fetch_options()?.refresh(args.refresh);
    let progress = session.progress();
    Ok(each::image(session, &args.names, |name| {
        let pulled = pull(&manager, name, &options, &progress);
        if let Ok(pulled) = &pulled
            && !session.options.quiet
        {
            session.output.text(&pulled.summary(name));
        }
        pulled.into()
    }))
}

fn pull(
    manager: &ImageManager,
    name: &str,
    options: &FetchOptions,
    progress: &Progress,
) -> Result<Pulled, Failure> {
    let started = Instant::now();
    let tally = Arc::new(Tally::default());
    let watch = Arc::new(progress.watch(name));
    let observed = options.clone().on_event({
        let (tally, watch) = (Arc::clone(&tally), Arc::clone(&watch));
        move |kind, event| {
            tally.note(kind, event);
            watch.event(kind, event);
        }
    });
    let ensured = manager.ensure_image_with(name, &observed);
    watch.finish();
    let image = ensured.map_err(|error| error.into_failure(name))?;
    let report = manager.inspect(name).map_err(|error| error.into_failure(name))?;
    let asset = |asset: &AssetReport| PulledAsset::new(asset, tally.asset(asset.kind));
    Ok(Pulled {
        directory: path_text(&report.directory),
        boot_args: image.boot_args,
        elapsed_ms: started.elapsed().as_millis(),
        assets: report.assets.iter().map(asset).collect(),
    })
}

impl PulledAsset {
    fn new(report: &AssetReport, tally: AssetTally) -> Self {
        Self {
            kind: report.kind,
            path: path_text(&report.path),
            digest: report.digest,
            size: report.size,
            pinned: report.pin.is_some(),
            outcome: tally.outcome,
            received: tally.received,
            retries: tally.retries,
            damage: tally.damage,
            shared_from: tally.shared_from,
        }
    }

    /// How it was had, in words.
    fn story(&self) -> String {
        match (self.outcome, &self.shared_from, &self.damage) {
            (_, Some(image), _) => format!("shared with {image}"),
            (Outcome::Fetched, _, Some(_)) => "repaired".to_owned(),
            (outcome, ..) => outcome.label().to_owned(),
        }
    }
}

impl Pulled {
    fn summary(&self, name: &str) -> String {
        let ready = style::paint(style::GOOD, "ready");
        let mut text = format!("{name}: {ready} in {}\n", self.directory);
        let widest = self.assets.iter().map(|asset| asset.story().len()).max().unwrap_or_default();
        for asset in &self.assets {
            let size = asset.size.map(size::human).unwrap_or_default();
            let pin = if asset.pinned {
                "pinned".to_owned()
            } else {
                style::paint(style::WARNING, "no pin")
            };
            let (kind, story) = (asset.kind.label(), asset.story());
            // Writing to a String does not fail.
            let _ = writeln!(text, "  {kind:<6}  {story:<widest$}  {size:>10}  {pin}");
        }
        text
    }
}
