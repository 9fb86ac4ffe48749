//! What happens to a command line that clap answers by itself: an error, the help, the version.

use clap::error::ErrorKind;

use crate::cli::Early;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// Prints what clap has to say, as JSON if that was asked for.
pub(crate) fn report(error: &clap::Error, early: Early) -> Exit {
    early.color.apply();
    let is_error = error.use_stderr();
    if is_error && early.json {
        output::print_json_failure(&Failure::usage(plain(error)));
    } else {
        match error.print() {
            // Nobody is left to read it.
            Err(failed) if failed.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) if !is_error => return Exit::Failed,
            Ok(()) | Err(_) => {}
        }
    }
    if is_error { Exit::Usage } else { Exit::Done }
}

/// The text of an error without its colours and its `error: `.
fn plain(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing. See them: smolvm --help".to_owned();
    }
    let text = error.render().to_string();
    text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
}
