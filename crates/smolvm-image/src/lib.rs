//! Fetch, cache and validate microVM images.
