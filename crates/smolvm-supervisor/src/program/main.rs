//! smolvm-supervisor.

fn main() {}
