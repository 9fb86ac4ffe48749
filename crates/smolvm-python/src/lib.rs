//! `smolvm._smolvm`: what the Python package `smolvm` (under `python/smolvm`) is made on.
//!
//! The package has the names, the models and the documentation; this module does the work. It
//! holds Python's interpreter lock only to take arguments and give results: see [`call`].

#![allow(clippy::needless_pass_by_value, reason = "arguments of Python come by value")]

mod call;
mod cause;
mod errors;
mod here;
mod images;
mod logging;
mod machine;
mod machine_config;
mod process;
mod seconds;

use pyo3::prelude::*;

/// The extension module of the package `smolvm`. Use the package.
#[pymodule]
mod _smolvm {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::call::Cancel;
    #[pymodule_export]
    use crate::images::{ImageManager, builtin_images, check_source, load_registry, redacted_url};
    #[pymodule_export]
    use crate::logging::deliver_logs;
    #[pymodule_export]
    use crate::machine::Machine;
    #[pymodule_export]
    use crate::machine_config::check_config;
    #[pymodule_export]
    use crate::process::Process;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's own name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) {
        crate::logging::install();
    }
}
