//! Compiles the program that this crate carries, once for each architecture that guests have.

fn main() -> Result<(), smolvm_embed::EmbedError> {
    let agent = smolvm_embed::Program::new("smolvm-agent", "src/guest/main.rs")
        .library("smolvm_protocol", "DEP_SMOLVM_PROTOCOL_SOURCE");
    agent.compile()?;
    agent.compile_also_for("x86_64")?;
    agent.compile_also_for("aarch64")
}
