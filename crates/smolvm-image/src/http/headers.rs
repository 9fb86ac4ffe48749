//! [`Headers`] of a response.

use std::fmt;

/// The header fields of a response, in the order they came in (RFC 9110 section 5).
#[derive(Clone, Default)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of the first field of that name, without white space around it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// The values of all fields of that name, one for each line.
    pub(crate) fn get_all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }
}

impl<'a> FromIterator<&'a httparse::Header<'a>> for Headers {
    fn from_iter<I: IntoIterator<Item = &'a httparse::Header<'a>>>(fields: I) -> Self {
        let field = |field: &httparse::Header<'_>| {
            // A folded value has its line breaks in it, each of which stands for a space
            // (RFC 9112 section 5.2).
            let value = String::from_utf8_lossy(field.value).replace(['\r', '\n'], " ");
            (field.name.to_owned(), value.trim().to_owned())
        };
        Self(fields.into_iter().map(field).collect())
    }
}

/// Names only: values may be secrets (`Set-Cookie`, a pre-signed `Location`).
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
