//! The rule for several names: a failure does not keep the others from their turn.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// What became of one image: a result, a failure, or both.
#[derive(Debug)]
pub(super) struct Turn<B> {
    pub(super) result: Option<B>,
    pub(super) failure: Option<Failure>,
}

#[derive(Serialize)]
struct Images<'a, B> {
    images: Vec<Entry<'a, B>>,
}

/// A turn as it stands in the list of a JSON object.
#[derive(Serialize)]
struct Entry<'a, B> {
    name: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    #[serde(flatten)]
    result: Option<B>,
}

impl<B> From<Result<B, Failure>> for Turn<B> {
    fn from(result: Result<B, Failure>) -> Self {
        match result {
            Ok(result) => Self { result: Some(result), failure: None },
            Err(failure) => Self { result: None, failure: Some(failure) },
        }
    }
}

/// Gives each name its turn, once, and prints the failures as they come and the JSON object at
/// the end. The exit code is that of the first failure; an interruption ends it all.
pub(super) fn image<B: Serialize>(
    session: &Session<'_>,
    names: &[String],
    mut work: impl FnMut(&str) -> Turn<B>,
) -> Exit {
    let mut seen = BTreeSet::new();
    let mut images = Vec::new();
    let mut first_failure: Option<Failure> = None;
    for name in names.iter().filter(|name| seen.insert(name.as_str())) {
        let Turn { result, failure } = work(name);
        images.push(Entry { name, ok: failure.is_none(), error: failure.clone(), result });
        let Some(failure) = failure else { continue };
        if !session.output.is_json() {
            session.output.failure(&failure);
        }
        if failure.is_interruption() {
            first_failure = Some(failure);
            break;
        }
        first_failure.get_or_insert(failure);
    }
    session.output.json(&Images { images }, first_failure.as_ref());
    first_failure.map_or(Exit::Done, |failure| failure.exit)
}
