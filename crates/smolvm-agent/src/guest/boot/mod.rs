//! From the first instruction of the guest's first process to the host being served from the root
//! file system of the image.

use std::convert::Infallible;
use std::panic;
use std::path::Path;

pub(crate) mod console;

mod config;
mod devices;
mod drivers;
mod error;
mod init;
mod keeper;
mod kernel_file_systems;
mod modules;
mod root;
mod superblock;
mod switch;

use config::Config;
use error::BootError;
use keeper::Keeper;

use crate::serve::Guest;
use crate::sys::child::{self, Fork};

/// Boots, as the first process. What goes wrong ends the machine with one line on the console.
pub(crate) fn run() -> ! {
    // The kernel would panic in its turn, and bury the line that says why.
    panic::set_hook(Box::new(|panic| match std::process::id() {
        1 => console::fatal(panic),
        _ => console::note(panic),
    }));
    match boot() {
        Err(error) => console::fatal(&error),
    }
}

fn boot() -> Result<Infallible, BootError> {
    kernel_file_systems::mount_first()?;
    let config = Config::read(Path::new(config::PATH))?;
    let mut drivers = drivers::load()?;
    let leftover = if config.entered {
        root::adopt(&config, &mut drivers)?;
        None
    } else {
        let root = root::mount(&config, &mut drivers)?;
        kernel_file_systems::move_into(&root);
        Some(switch::enter(&root)?)
    };
    let init = init::find(Path::new("/"), &config.init)?;
    kernel_file_systems::mount_rest(init.is_some());

    let guest = Guest { root_has_init: init.is_some() };
    let Some(init) = init else {
        let keeper = Keeper::start(guest)?;
        if let Some(leftover) = leftover {
            leftover.free();
        }
        keeper.keep()
    };
    match child::fork().map_err(BootError::Fork)? {
        Fork::Child => {
            child::leave_session();
            Keeper::start(guest)?.keep()
        }
        Fork::Parent(_) => {
            if let Some(leftover) = leftover {
                leftover.free();
            }
            Err(init.execute())
        }
    }
}
