//! Ctrl-C and SIGTERM: the first ends what is running in order, the second ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use smolvm::{CancelToken, FetchOptions};

use crate::exit::Exit;
use crate::failure::Failure;

/// Options for calls that the signals cancel. Commands that hold nothing open do not ask for them:
/// a signal ends those at once.
pub(crate) fn fetch_options() -> Result<FetchOptions, Failure> {
    let cancel = cancel_token().map_err(|error| Failure::signals(&error))?;
    Ok(FetchOptions::new().cancel(&cancel))
}

/// A token that the signals cancel.
pub(crate) fn cancel_token() -> io::Result<CancelToken> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal must not see the flag that it sets itself.
        let code = i32::from(Exit::Interrupted.code());
        flag::register_conditional_shutdown(signal, code, Arc::clone(&interrupted))?;
        flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(CancelToken::from(interrupted))
}
