//! `smolvm vm ls`: the VMs of this user.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use smolvm::{VmInfo, VmState};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::style;
use crate::table::{Cell, Table};

#[derive(Serialize)]
struct All<'a> {
    vms: &'a [VmInfo],
}

pub(super) fn run(session: &Session<'_>) -> Result<Exit, Failure> {
    let vms = session.vms()?.list()?;
    session.output.json(&All { vms: &vms }, None);
    let mut table = Table::new(["ID", "STATE", "AGE", "ADDRESS", "IMAGE"]);
    for vm in &vms {
        table.push(row(vm));
    }
    session.output.text(&table.render());
    Ok(Exit::Done)
}

fn row(vm: &VmInfo) -> [Cell; 5] {
    let style = match vm.state {
        VmState::Running => style::GOOD,
        VmState::Error => style::ERROR,
        _ => style::DIM,
    };
    let address = vm.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    // A cached image lies in a directory of its name.
    let image = vm.kernel.parent().and_then(|directory| directory.file_name());
    let image = image.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    [
        vm.id.as_str().into(),
        Cell::new(style, vm.state.to_string()),
        age(vm.created).into(),
        address.into(),
        image.into(),
    ]
}

fn age(created: SystemTime) -> String {
    let age = created.elapsed().unwrap_or(Duration::ZERO).as_secs();
    match age {
        0..60 => format!("{age} s"),
        60..3600 => format!("{} min", age / 60),
        3600..86400 => format!("{} h", age / 3600),
        _ => format!("{} d", age / 86400),
    }
}
