//! `smolvm image inspect`: all that is known of one image.

use std::fmt::Write as _;

use serde::Serialize;
use smolvm::{AssetReport, AssetStatus, ImageReport};

use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::image_object::{ImageObject, path_text, published_at};
use crate::session::Session;
use crate::size;
use crate::style;

#[derive(Serialize)]
struct Inspected<'a> {
    name: &'a str,
    image: ImageObject,
}

pub(super) fn run(session: &Session<'_>, name: &str) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let report = manager.inspect(name).map_err(|error| error.into_failure(name))?;
    session.output.text(&describe(&report));
    session.output.json(&Inspected { name, image: ImageObject::from(&report) }, None);
    Ok(Exit::Done)
}

fn describe(report: &ImageReport) -> String {
    let cached = match (report.cached, report.disk_bytes) {
        (true, bytes) => format!("yes, {} on disk", size::human(bytes)),
        (false, 0) => "no".to_owned(),
        (false, bytes) => format!("in part, {} on disk", size::human(bytes)),
    };
    let mut text = format!("{}\n", style::paint(style::HEADER, &report.name));
    field(&mut text, "directory", Some(path_text(&report.directory)));
    field(&mut text, "cached", Some(cached));
    match &report.source {
        None => field(&mut text, "registry", Some("no registry names it".to_owned())),
        Some(source) => field(&mut text, "boot args", source.boot_args().map(str::to_owned)),
    }
    for asset in &report.assets {
        describe_asset(&mut text, report, asset);
    }
    text
}

fn describe_asset(text: &mut String, report: &ImageReport, asset: &AssetReport) {
    text.push_str(&style::paint(style::HEADER, asset.kind.label()));
    text.push('\n');
    let published = published_at(report, asset.kind);
    let fetched_from = asset.url.clone().filter(|url| published.as_ref() != Some(url));
    let pin = match asset.pin {
        Some(pin) => Some(pin.to_string()),
        None if report.source.is_some() => Some("none: nothing vouches for it".to_owned()),
        None => None,
    };
    field(text, "path", Some(path_text(&asset.path)));
    field(text, "url", published);
    field(text, "came from", fetched_from);
    field(text, "pin", pin);
    field(text, "digest", asset.digest.map(|digest| digest.to_string()));
    field(text, "size", asset.size.map(|bytes| format!("{} ({bytes} bytes)", size::human(bytes))));
    field(text, "fetched", asset.fetched_at.clone());
    field(text, "state", Some(state(&asset.status)));
}

fn field(text: &mut String, label: &str, value: Option<String>) {
    if let Some(value) = value {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {label:<9}  {value}");
    }
}

/// The state of an asset in words.
pub(super) fn state(status: &AssetStatus) -> String {
    match status {
        AssetStatus::Verified => "verified".to_owned(),
        AssetStatus::Unpinned => "as first fetched (no pin)".to_owned(),
        AssetStatus::Present => "present, not hashed".to_owned(),
        AssetStatus::Missing => "missing".to_owned(),
        AssetStatus::Damaged { reason } => format!("damaged: {reason}"),
        _ => "unknown".to_owned(),
    }
}
