//! For build scripts: compiles a small static program that the crate then carries as bytes.
//!
//! `rustc` is called directly. A nested `cargo build` would wait for the lock of the target
//! directory that the outer one holds, and would inherit flags that are not meant for it.

use std::env;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
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
        let variable = self.variable();
        let program = match prebuilt(&variable) {
            Some(path) => path,
            None => self.compile_for(&Target::own()?)?,
        };
        println!("cargo:rustc-env={variable}_PROGRAM={}", program.display());
        Ok(())
    }

    /// Compiles it for another `architecture` as well, such as `aarch64`, where the standard
    /// library for its musl target is installed, and sets `<NAME>_<ARCHITECTURE>_PROGRAM` as
    /// [`compile`](Self::compile) does. Elsewhere the executable is an empty file: a build must not
    /// fail for want of what few need. `<NAME>_<ARCHITECTURE>_PREBUILT` is taken as it is.
    ///
    /// For the crate's own architecture it is empty too: that one is there already.
    pub fn compile_also_for(&self, architecture: &str) -> Result<(), EmbedError> {
        let variable = format!("{}_{}", self.variable(), architecture.to_uppercase());
        let program = if let Some(path) = prebuilt(&variable) {
            path
        } else if let Some(target) = Target::foreign(architecture)? {
            self.compile_for(&target)?
        } else {
            let none = directory("none")?.join(self.name);
            File::create(&none).map_err(|error| cannot_write(&none, &error))?;
            none
        };
        println!("cargo:rustc-env={variable}_PROGRAM={}", program.display());
        Ok(())
    }

    fn variable(&self) -> String {
        self.name.replace('-', "_").to_uppercase()
    }

    fn compile_for(&self, target: &Target) -> Result<PathBuf, EmbedError> {
        let out = directory(&target.architecture)?;
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
    architecture: String,
    triple: String,
    is_musl: bool,
    is_foreign: bool,
}

impl Target {
    /// The musl variant of the crate's own target where its standard library is installed, since
    /// that makes the smaller program; else the target itself, linked statically.
    fn own() -> Result<Self, EmbedError> {
        let architecture = own_architecture()?;
        let (musl, is_musl) = (musl(&architecture), has_standard_library(&architecture)?);
        let gnu = format!("{architecture}-unknown-linux-gnu");
        let triple = if is_musl { musl } else { gnu };
        Ok(Self { architecture, triple, is_musl, is_foreign: false })
    }

    /// The musl target of another architecture, where its standard library is installed: it
    /// brings a C library, so that no C compiler for that architecture is needed.
    fn foreign(architecture: &str) -> Result<Option<Self>, EmbedError> {
        if architecture == own_architecture()? || !has_standard_library(architecture)? {
            return Ok(None);
        }
        let (architecture, triple) = (architecture.to_owned(), musl(architecture));
        Ok(Some(Self { architecture, triple, is_musl: true, is_foreign: true }))
    }

    fn rustc(&self) -> Result<Command, EmbedError> {
        let mut rustc = Command::new(variable("RUSTC")?);
        rustc.args(FLAGS).args(["--target", &self.triple]);
        if !self.is_musl {
            rustc.arg("-Ctarget-feature=+crt-static");
        }
        if self.is_foreign {
            // The linker that comes with the compiler; the system's knows this machine's alone.
            rustc.args(["-Clinker=rust-lld", "-Clink-self-contained=yes"]);
        }
        // Flags for the crate that is built around it are not meant for this program.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
            rustc.env_remove(variable);
        }
        Ok(rustc)
    }
}

/// The executable that the environment names instead of one that is compiled.
fn prebuilt(variable: &str) -> Option<PathBuf> {
    let prebuilt = format!("{variable}_PREBUILT");
    println!("cargo:rerun-if-env-changed={prebuilt}");
    println!("cargo:rerun-if-changed=build.rs");
    let path = PathBuf::from(env::var_os(&prebuilt)?);
    println!("cargo:rerun-if-changed={}", path.display());
    Some(path)
}

fn own_architecture() -> Result<String, EmbedError> {
    let target = variable("TARGET")?;
    Ok(target.split('-').next().unwrap_or_default().to_owned())
}

fn musl(architecture: &str) -> String {
    format!("{architecture}-unknown-linux-musl")
}

/// Whether the standard library for the musl target of an architecture is installed.
fn has_standard_library(architecture: &str) -> Result<bool, EmbedError> {
    let libraries = Command::new(variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", &musl(architecture)])
        .output()
        .map_err(|error| EmbedError(format!("cannot ask rustc for its targets: {error}")))?;
    let directory = PathBuf::from(String::from_utf8_lossy(&libraries.stdout).trim());
    // rustup's list of what is installed: one more target is noticed by it. (A file that is not
    // there would have cargo run the build script every time.)
    let list = directory.ancestors().nth(2).map(|directory| directory.join("components"));
    if let Some(list) = list.filter(|list| list.is_file()) {
        println!("cargo:rerun-if-changed={}", list.display());
    }
    Ok(libraries.status.success() && directory.is_dir())
}

/// Where programs for an architecture are written, or none.
fn directory(architecture: &str) -> Result<PathBuf, EmbedError> {
    let directory = PathBuf::from(variable("OUT_DIR")?).join(architecture);
    let created = DirBuilder::new().recursive(true).create(&directory);
    created.map_err(|error| cannot_write(&directory, &error))?;
    Ok(directory)
}

fn cannot_write(path: &Path, error: &io::Error) -> EmbedError {
    EmbedError(format!("cannot write {}: {error}", path.display()))
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
