//! `smolvm image list`: what there is, what is cached, and what no digest vouches for.

use std::collections::BTreeSet;

use smolvm::ImageReport;

use super::each;
use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::image_object::{ImageObject, published_at};
use crate::session::Session;
use crate::size;
use crate::style;
use crate::table::{Cell, Table};

pub(super) fn run(session: &Session<'_>) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let mut names: BTreeSet<String> = manager.list_available().into_iter().collect();
    names.extend(manager.cached_names()?);
    let names = Vec::from_iter(names);

    let mut table = Table::new(["NAME", "CACHED", "SIZE ON DISK", "PINNED", "SOURCE"]);
    let exit = each::image(session, &names, |name| {
        let inspected = manager.inspect(name).map_err(|error| error.into_failure(name));
        if let Ok(report) = &inspected {
            table.push(row(report));
        }
        inspected.map(|report| ImageObject::from(&report)).into()
    });
    session.output.text(&table.render());
    Ok(exit)
}

fn row(report: &ImageReport) -> [Cell; 5] {
    let is_partial = report.disk_bytes > 0;
    let cached = match report.cached {
        true => Cell::new(style::GOOD, "yes"),
        false if is_partial => Cell::new(style::WARNING, "in part"),
        false => "no".into(),
    };
    let size = match report.disk_bytes {
        0 => "-".into(),
        bytes => size::human(bytes).into(),
    };
    [report.name.as_str().into(), cached, size, pinned(report), source(report)]
}

/// `yes`, or which assets no digest vouches for.
fn pinned(report: &ImageReport) -> Cell {
    let unpinned: Vec<_> =
        report.assets.iter().filter(|asset| asset.pin.is_none()).map(|a| a.kind.label()).collect();
    match unpinned[..] {
        _ if report.source.is_none() => "-".into(),
        [] => Cell::new(style::GOOD, "yes"),
        _ => Cell::new(style::WARNING, format!("no pin: {}", unpinned.join(", "))),
    }
}

/// The servers, or `file:`; the whole addresses are in `inspect`.
fn source(report: &ImageReport) -> Cell {
    if report.source.is_none() {
        return Cell::new(style::DIM, "in no registry");
    }
    let mut origins: Vec<_> = report
        .assets
        .iter()
        .filter_map(|asset| published_at(report, asset.kind))
        .map(|url| origin(&url).to_owned())
        .collect();
    origins.dedup();
    origins.join(", ").into()
}

/// A URL up to its path: `https://example.com:8080`; `file:` for a file.
fn origin(url: &str) -> &str {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url;
    };
    let authority = rest.find('/').unwrap_or(rest.len());
    match authority {
        0 => &url[..=scheme.len()],
        _ => &url[..scheme.len() + "://".len() + authority],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert_eq!(origin("https://h:8080/a/b?c=***"), "https://h:8080");
        assert_eq!(origin("http://h"), "http://h");
        assert_eq!(origin("file:///srv/x"), "file:");
    }
}
