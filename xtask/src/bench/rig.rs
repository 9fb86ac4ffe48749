//! [`Rig`]: what all cases share: the files, the server, our own program, and a place for what is
//! fetched.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contender::empty;
use super::files::Content;
use super::python::{OwnPython, PeerPython};
use crate::command::{self, command};
use crate::serve::{Server, Tls};
use crate::{paths, term};

/// A file at an address.
#[derive(Debug, Clone)]
pub(crate) struct Download {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) sha256: String,
}

/// What all cases share.
pub(crate) struct Rig {
    /// Where served files lie.
    pub(crate) files: PathBuf,
    /// Where what is fetched goes; made anew by each run of the benchmark.
    pub(crate) scratch: PathBuf,
    pub(crate) plain: Server,
    pub(crate) secure: Server,
    /// What clients of `secure` must trust.
    pub(crate) certificate: PathBuf,
    pub(crate) smolvm: PathBuf,
    /// Our library, called again and again in one process.
    pub(crate) in_process: PathBuf,
    /// The same for making machines.
    pub(crate) disks: PathBuf,
    /// Or why there is none: what cannot be installed is no reason to measure nothing.
    pub(crate) python: Result<PeerPython, String>,
    pub(crate) own_python: Result<OwnPython, String>,
}

impl Rig {
    /// Starts the servers, after our programs were built (`build`) as they are released.
    pub(crate) fn set_up(build: bool) -> Result<Self> {
        if build {
            self::build()?;
        }
        let release = paths::root().join("target/release");
        let python = PeerPython::ensure().map_err(told);
        let own_python = OwnPython::ensure(build).map_err(told);
        let (files, scratch) = (paths::bench().join("files"), paths::bench().join("scratch"));
        fs_err::create_dir_all(&files)?;
        empty(&scratch)?;
        let tls = certificate(&scratch)?;
        let (plain_dir, secure_dir) = (scratch.join("nginx"), scratch.join("nginx-tls"));
        fs_err::create_dir(&plain_dir)?;
        fs_err::create_dir(&secure_dir)?;
        Ok(Self {
            plain: Server::start(&files, &plain_dir)?,
            secure: Server::start_tls(&files, &secure_dir, &tls)?,
            certificate: tls.certificate,
            files,
            scratch,
            smolvm: release.join("smolvm"),
            in_process: release.join("examples/ensure"),
            disks: release.join("examples/disks"),
            python,
            own_python,
        })
    }

    /// The address of the plain server.
    pub(crate) fn server(&self) -> Result<SocketAddr> {
        let address = self.plain.address();
        let address = address.strip_prefix("http://").unwrap_or(&address);
        address.parse().with_context(|| format!("{address} is no address"))
    }

    /// Our own command line, with nothing of the user's settings.
    pub(crate) fn smolvm(&self, registry: &Path, cache: &Path) -> Command {
        let mut command = command(&self.smolvm);
        command::without_settings(&mut command);
        command.env("HOME", self.scratch.join("home"));
        command.arg("--cache-dir").arg(cache).arg("--registry").arg(registry);
        command
    }

    /// A registry file with images `image-0`, `image-1` and so on, each of two files in turn.
    pub(crate) fn registry(&self, name: &str, files: &[Download]) -> Result<PathBuf> {
        let path = self.scratch.join(format!("{name}.toml"));
        let mut text = String::new();
        for (number, pair) in files.chunks_exact(2).enumerate() {
            let [kernel, rootfs] = pair else { continue };
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "[images.image-{number}]\n\
                 kernel_url = \"{}\"\nkernel_sha256 = \"{}\"\n\
                 rootfs_url = \"{}\"\nrootfs_sha256 = \"{}\"\n",
                kernel.url, kernel.sha256, rootfs.url, rootfs.sha256
            );
        }
        fs_err::write(&path, text)?;
        Ok(path)
    }
}

/// The files as a server at `base` has them.
pub(crate) fn downloads(base: &str, files: &[Content]) -> Vec<Download> {
    let download = |file: &Content| Download {
        name: file.name.clone(),
        url: format!("{base}/{}", file.name),
        sha256: file.sha256.clone(),
    };
    files.iter().map(download).collect()
}

/// Builds our program and those that call the library.
fn build() -> Result<()> {
    let release = ["build", "--release", "--package"];
    command::run(command("cargo").args(release).arg("smolvm-cli"))?;
    let examples = ["smolvm", "--example", "ensure", "--example", "disks"];
    command::run(command("cargo").args(release).args(examples))
}

/// Shows a failure to whoever is there, and keeps it for the tables.
#[allow(clippy::needless_pass_by_value, reason = "it takes an error in `map_err`")]
fn told(error: anyhow::Error) -> String {
    term::error(&error);
    format!("{error:#}")
}

/// A certificate for 127.0.0.1 that vouches for itself.
fn certificate(directory: &Path) -> Result<Tls> {
    let tls = Tls { certificate: directory.join("server.pem"), key: directory.join("server.key") };
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]);
    openssl.args(["ec_paramgen_curve:prime256v1", "-days", "7", "-subj", "/CN=bench"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&tls.key).arg("-out").arg(&tls.certificate);
    command::capture(&mut openssl)?;
    Ok(tls)
}
