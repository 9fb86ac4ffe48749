//! Seconds of Python as a duration.

use std::time::Duration;

use pyo3::prelude::*;

use crate::errors;

/// No clock counts further, and nobody waits longer.
const LONGEST: f64 = 365.0 * 24.0 * 3600.0;

/// A number of seconds from 0 on; a year where it is more.
pub(crate) fn seconds(py: Python<'_>, name: &str, value: f64) -> PyResult<Duration> {
    if value.is_nan() || value < 0.0 {
        let message = format!("{name} cannot be {value}: it is a number of seconds, 0 or more");
        return Err(errors::validation(py, &message));
    }
    Ok(Duration::from_secs_f64(value.min(LONGEST)))
}
