//! For build scripts: compiles a small static program that the crate then carries as bytes.
//!
//! `rustc` is called directly. A nested `cargo build` would wait for the lock of the target
//! directory that the outer one holds, and would inherit flags that are not meant for it.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program to compile: one file tree that needs `std` and [libraries](Self::library) alone.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    main: &'static str,
    libraries: Vec<(&'static str, &'static str)>,
}

/// Why a program could not be compiled. `Debug` is what a build script shows.
pub struct EmbedError(String);

/// What the program is optimised for: few bytes, since it is unpacked at every boot.
const FLAGS: &[&str] = &[
    "--edition=2024",
    "-Copt-level=z",
    "-Cpanic=abort",
    "-Ccodegen-units=1",
    "-Cembed-bitcode=yes",
];

impl Program {
    /// The program `name` with its `main` file, relative to the crate.
    #[must_use]
    pub fn new(name: &'static str, main: &'static str) -> Self {
        Self { name, main, libraries: Vec::new() }
    }

    /// A library without dependencies that it uses; its root file is named by the environment
    /// variable `source`, which the library's own build script sets.
    #[must_use]
    pub fn library(mut self, name: &'static str, source: &'static str) -> Self {
        self.libraries.push((name, source));
        self
    }

    /// Compiles it, and sets `<NAME>_PROGRAM` to the path of the executable for `env!` in the
    /// crate. A variable `<NAME>_PREBUILT` in the environment names an executable to take as it is.
    pub fn compile(&self) -> Result<(), EmbedError> {
        let variable = self.name.replace('-', "_").to_uppercase();
        let prebuilt = format!("{variable}_PREBUILT");
        println!("cargo:rerun-if-env-changed={prebuilt}");
        println!("cargo:rerun-if-changed=build.rs");
        let program = if let Some(path) = env::var_os(&prebuilt) {
            println!("cargo:rerun-if-changed={}", path.display());
            PathBuf::from(path)
        } else {
            self.compile_program()?
        };
        println!("cargo:rustc-env={variable}_PROGRAM={}", program.display());
        Ok(())
    }

    fn compile_program(&self) -> Result<PathBuf, EmbedError> {
        let out = PathBuf::from(variable("OUT_DIR")?);
        let target = Target::choose(&variable("TARGET")?)?;
        let mut externs = Vec::new();
        for (name, source) in &self.libraries {
            let source = PathBuf::from(variable(source)?);
            let library = out.join(format!("lib{name}.rlib"));
            let mut rustc = target.rustc()?;
            rustc.args(["--crate-type=rlib", "--crate-name", name]).arg(&source);
            run(rustc.arg("-o").arg(&library))?;
            watch(&source);
            externs.push(format!("{name}={}", library.display()));
        }
        let program = out.join(self.name);
        let mut rustc = target.rustc()?;
        rustc.args(["--crate-type=bin", "--crate-name"]).arg(self.name.replace('-', "_"));
        rustc.args(["-Clto=fat", "-Cstrip=symbols", "-Crelocation-model=static"]);
        for library in &externs {
            rustc.args(["--extern", library]);
        }
        run(rustc.arg(self.main).arg("-o").arg(&program))?;
        watch(Path::new(self.main));
        Ok(program)
    }
}

/// The platform that the program is compiled for.
struct Target {
    triple: String,
    is_musl: bool,
}

impl Target {
    /// The musl variant of the target where its standard library is installed, since that makes
    /// the smaller program; else the target itself, linked statically.
    fn choose(target: &str) -> Result<Self, EmbedError> {
        let architecture = target.split('-').next().unwrap_or(target);
        let musl = format!("{architecture}-unknown-linux-musl");
        let gnu = format!("{architecture}-unknown-linux-gnu");
        let libraries = Command::new(variable("RUSTC")?)
            .args(["--print", "target-libdir", "--target", &musl])
            .output()
            .map_err(|error| EmbedError(format!("cannot ask rustc for its targets: {error}")))?;
        let directory = PathBuf::from(String::from_utf8_lossy(&libraries.stdout).trim());
        let is_musl = libraries.status.success() && directory.is_dir();
        Ok(Self { triple: if is_musl { musl } else { gnu }, is_musl })
    }

    fn rustc(&self) -> Result<Command, EmbedError> {
        let mut rustc = Command::new(variable("RUSTC")?);
        rustc.args(FLAGS).args(["--target", &self.triple]);
        if !self.is_musl {
            rustc.arg("-Ctarget-feature=+crt-static");
        }
        // Flags for the crate that is built around it are not meant for this program.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
            rustc.env_remove(variable);
        }
        Ok(rustc)
    }
}

/// Has cargo run the build script again when a file beside or below this one changes.
fn watch(root: &Path) {
    println!("cargo:rerun-if-changed={}", root.parent().unwrap_or(root).display());
}

fn run(command: &mut Command) -> Result<(), EmbedError> {
    let output =
        command.output().map_err(|error| EmbedError(format!("cannot run {command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(EmbedError(format!(
        "{command:?} failed ({}):\n{said}\nWithout the musl target this needs the static C library \
         (Debian's libc6-dev has it)",
        output.status
    )))
}

fn variable(name: &str) -> Result<String, EmbedError> {
    env::var(name).map_err(|error| EmbedError(format!("{name} in the environment: {error}")))
}

impl fmt::Debug for EmbedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
