//! Compiles the program that this crate carries.

fn main() -> Result<(), smolvm_embed::EmbedError> {
    smolvm_embed::Program::new("smolvm-agent", "src/guest/main.rs")
        .library("smolvm_protocol", "DEP_SMOLVM_PROTOCOL_SOURCE")
        .compile()
}
