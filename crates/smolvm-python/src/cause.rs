//! Causes of errors as Python's exceptions, to be chained.

use std::error::Error;
use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::errors::{self, Class};

/// The exceptions for what caused an error, one caused by the next; `None` where it has no cause.
pub(crate) fn of(py: Python<'_>, error: &(dyn Error + 'static), class: Class) -> Option<PyErr> {
    let source = error.source()?;
    if let Some(error) = source.downcast_ref::<io::Error>() {
        return Some(os_error(py, error));
    }
    let next = of(py, source, class);
    let text = source.to_string();
    // Some errors only wrap others.
    if text == error.to_string() && next.is_some() {
        return next;
    }
    let exception = errors::exception(py, class, &text, None);
    exception.set_cause(py, next);
    Some(exception)
}

/// An `OSError` with its number, of the class that Python has for it.
fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else {
        let text = error.to_string();
        let class = io::Error::new(error.kind(), text);
        return PyErr::from(class);
    };
    let text = py
        .import("os")
        .and_then(|os| os.call_method1("strerror", (number,)))
        .and_then(|text| text.extract::<String>())
        .unwrap_or_else(|_| error.to_string());
    PyOSError::new_err((number, text))
}
