//! `smolvm image verify`: every byte of cached images is hashed, nothing is changed.

use std::sync::Arc;

use smolvm::{AssetReport, AssetStatus, FetchOptions, ImageManager, ImageReport};

use super::each::{self, Turn};
use super::inspect::state;
use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::image_object::ImageObject;
use crate::progress::Progress;
use crate::session::Session;
use crate::signals;
use crate::style;

pub(super) fn run(session: &Session<'_>, names: &[String]) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let options = signals::fetch_options()?;
    let progress = session.progress();
    let cached;
    let names = if names.is_empty() {
        cached = manager.cached_names()?;
        if cached.is_empty() && !session.options.quiet {
            session.output.text("nothing is cached\n");
        }
        &cached
    } else {
        names
    };
    Ok(each::image(session, names, |name| {
        let report = match verify(&manager, name, &options, &progress) {
            Ok(report) => report,
            Err(failure) => {
                return Turn { result: None, failure: Some(failure) };
            }
        };
        if !session.options.quiet {
            session.output.text(&describe(&report));
        }
        Turn { failure: failure_of(&report), result: Some(ImageObject::from(&report)) }
    }))
}

fn verify(
    manager: &ImageManager,
    name: &str,
    options: &FetchOptions,
    progress: &Progress,
) -> Result<ImageReport, Failure> {
    let watch = Arc::new(progress.watch(name));
    let observed = options.clone().on_event({
        let watch = Arc::clone(&watch);
        move |kind, event| watch.event(kind, event)
    });
    let report = manager.verify(name, &observed);
    watch.finish();
    report.map_err(|error| error.into_failure(name))
}

/// What is wrong with an image: not there at all, or not as it should be.
fn failure_of(report: &ImageReport) -> Option<Failure> {
    let is_missing = |asset: &AssetReport| asset.status == AssetStatus::Missing;
    if report.assets.iter().all(is_missing) {
        return Some(Failure::not_cached(&report.name));
    }
    let bad: Vec<_> = report
        .assets
        .iter()
        .filter(|asset| !asset.status.is_good())
        .map(|asset| asset.kind.label())
        .collect();
    (!bad.is_empty()).then(|| Failure::damaged(&report.name, &bad))
}

fn describe(report: &ImageReport) -> String {
    let line = |asset: &AssetReport| {
        let style = if asset.status.is_good() { style::GOOD } else { style::ERROR };
        let state = style::paint(style, &state(&asset.status));
        format!("{}: {}: {state}\n", report.name, asset.kind)
    };
    report.assets.iter().map(line).collect()
}
