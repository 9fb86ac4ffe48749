//! `smolvm image rm`: images leave the cache.

use smolvm::Removed;

use super::each;
use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::session::Session;
use crate::signals;
use crate::size;

pub(super) fn run(session: &Session<'_>, names: &[String]) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let options = signals::fetch_options()?;
    Ok(each::image(session, names, |name| {
        let removed = manager.remove(name, &options).map_err(|error| error.into_failure(name));
        if let Ok(removed) = &removed
            && !session.options.quiet
        {
            session.output.text(&describe(name, *removed));
        }
        removed.into()
    }))
}

fn describe(name: &str, removed: Removed) -> String {
    if removed.existed {
        format!("{name}: removed, {} freed\n", size::human(removed.freed_bytes))
    } else {
        format!("{name}: not in the cache, nothing to remove\n")
    }
}
