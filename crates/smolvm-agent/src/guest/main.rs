//! smolvm-agent.

fn main() {}
