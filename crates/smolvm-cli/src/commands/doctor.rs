//! `smolvm doctor`: what this host has and lacks.

use std::fmt::Write as _;

use serde::Serialize;
use smolvm::{HostCheck, HostStatus};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
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
        Ok(manager) => {
            let count = manager.list_available().len();
            HostCheck::good("registry", format!("{count} images are known"))
        }
        Err(failure) => {
            return vec![HostCheck::missing(
                "registry",
                failure.message,
                "Correct the registry file, or leave it out",
            )];
        }
    };
    vec![manager]
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
