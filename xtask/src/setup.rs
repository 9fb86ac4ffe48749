//! `cargo xtask setup`: installs the Debian packages that the other tasks
//! use. Does nothing, quickly, on a machine that has them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, command};
use crate::{firecracker, rust_target, term, tools};

/// How much to set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// What the quickstart runs.
    Quickstart,
    /// What the tests run, too.
    Tests,
    /// What the benchmark is held against, too.
    Bench,
}

/// A program that the tasks or the tests run, and the package that has it.
struct Need {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
    scope: Scope,
}

const NEEDS: &[Need] = &[
    Need {
        program: "nginx",
        package: "nginx-light",
        purpose: "serves images on loopback",
        scope: Scope::Quickstart,
    },
    Need {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        purpose: "boots what was cached",
        scope: Scope::Quickstart,
    },
    Need {
        program: "qemu-system-aarch64",
        package: "qemu-system-arm",
        purpose: "boots a guest for another processor",
        scope: Scope::Tests,
    },
    Need {
        program: "qemu-img",
        package: "qemu-utils",
        purpose: "lays a guest's own disk over a cached one",
        scope: Scope::Quickstart,
    },
    Need {
        program: "qemu-io",
        package: "qemu-utils",
        purpose: "reads such layers as QEMU does",
        scope: Scope::Tests,
    },
    Need {
        program: "busybox",
        package: "busybox-static",
        purpose: "a userland to confine a guest's agent to",
        scope: Scope::Tests,
    },
    Need {
        program: "passt",
        package: "passt",
        purpose: "connects guests without privileges",
        scope: Scope::Quickstart,
    },
    Need {
        program: "mkfs.ext4",
        package: "e2fsprogs",
        purpose: "makes root file systems",
        scope: Scope::Quickstart,
    },
    Need {
        program: "mmdebstrap",
        package: "mmdebstrap",
        purpose: "makes a Debian tree",
        scope: Scope::Tests,
    },
    Need {
        program: "squid",
        package: "squid",
        purpose: "a proxy that is not our own",
        scope: Scope::Tests,
    },
    Need {
        program: "curl",
        package: "curl",
        purpose: "a client that is not our own",
        scope: Scope::Tests,
    },
    Need {
        program: "mkfs.xfs",
        package: "xfsprogs",
        purpose: "a file system that shares blocks",
        scope: Scope::Tests,
    },
    Need {
        program: "mkfs.btrfs",
        package: "btrfs-progs",
        purpose: "another one",
        scope: Scope::Tests,
    },
    Need {
        program: "ip",
        package: "iproute2",
        purpose: "networks of the tests' own",
        scope: Scope::Tests,
    },
    Need {
        program: "nft",
        package: "nftables",
        purpose: "rules for guests with a tap",
        scope: Scope::Tests,
    },
    Need {
        program: "lz4",
        package: "lz4",
        purpose: "packs kernels as their makers do",
        scope: Scope::Tests,
    },
    Need { program: "zstd", package: "zstd", purpose: "the same", scope: Scope::Tests },
    Need { program: "xz", package: "xz-utils", purpose: "the same", scope: Scope::Tests },
    Need { program: "bzip2", package: "bzip2", purpose: "the same", scope: Scope::Tests },
    Need {
        program: "python3",
        package: "python3",
        purpose: "runs commands as subprocess does",
        scope: Scope::Tests,
    },
    Need {
        program: "openssl",
        package: "openssl",
        purpose: "hashes as fast as this machine can",
        scope: Scope::Bench,
    },
    Need {
        program: "aria2c",
        package: "aria2",
        purpose: "fetches over several connections",
        scope: Scope::Bench,
    },
    Need { program: "wget", package: "wget", purpose: "fetches over one", scope: Scope::Bench },
];

const VENV: Need = Need {
    program: "python3",
    package: "python3-venv",
    purpose: "installs cargo tools and the Python package",
    scope: Scope::Tests,
};

/// How often packages are installed: one of them may replace another that was there, in a version
/// that does not go with it (tools of QEMU from a newer Debian, say), which is then missing.
const ROUNDS: usize = 3;

/// Installs what is missing, or says which command does.
pub(crate) fn run(scope: Scope) -> Result<()> {
    check_platform(scope)?;
    if scope == Scope::Tests {
        check_toolchain()?;
    }
    let tools = if scope == Scope::Tests { tools::missing() } else { Vec::new() };
    let mut missing = missing(scope);
    let no_firecracker = scope == Scope::Tests && firecracker::is_missing();
    let no_target = scope == Scope::Tests && rust_target::is_missing();
    if missing.is_empty() && tools.is_empty() && !no_firecracker && !no_target {
        term::note("everything is installed");
        return Ok(());
    }
    for _ in 0..ROUNDS {
        install_packages(&missing)?;
        missing = self::missing(scope);
        if missing.is_empty() {
            tools::install(&tools)?;
            if no_firecracker {
                firecracker::install()?;
            }
            if no_target {
                rust_target::install();
            }
            return Ok(());
        }
    }
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    bail!("{} went missing while others were installed", packages.join(", "))
}

/// What is needed and not there.
fn missing(scope: Scope) -> Vec<&'static Need> {
    let mut missing: Vec<_> =
        needs(scope).filter(|need| command::find(need.program).is_none()).collect();
    if scope >= Scope::Tests && !has_venv() {
        missing.push(&VENV);
    }
    missing.dedup_by_key(|need| need.package);
    missing
}

fn needs(scope: Scope) -> impl Iterator<Item = &'static Need> {
    NEEDS.iter().filter(move |need| need.scope <= scope)
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    command::capture(command("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// Brings the lists of packages up to date; nothing where this is not root.
pub(crate) fn update_package_lists() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    command::capture(command("apt-get").args(["update", "--quiet"])).map(drop)
}

fn check_platform(scope: Scope) -> Result<()> {
    if command::find("apt-get").is_none() {
        let programs: Vec<_> = needs(scope).map(|need| need.program).collect();
        if programs.iter().all(|program| command::find(program).is_some()) {
            return Ok(());
        }
        bail!(
            "this is no Debian (there is no apt-get): install {} by your system's means",
            programs.join(", ")
        );
    }
    Ok(())
}

/// A minimal toolchain has neither of the two.
fn check_toolchain() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if command::capture(command("cargo").args([subcommand, "--version"])).is_err() {
            bail!(
                "the Rust toolchain has no {component}. Run this and try again:\n    \
                 rustup component add {component}"
            );
        }
    }
    Ok(())
}

fn has_venv() -> bool {
    command::capture(command("python3").args(["-c", "import ensurepip, venv"])).is_ok()
}

fn install_packages(missing: &[&Need]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    for need in missing {
        term::note(&format!("missing: {} ({})", need.package, need.purpose));
    }
    let mut install = command("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]);
    install.args(missing.iter().map(|need| need.package));
    if !is_root() {
        bail!(
            "packages are missing, and only root can install them. Run this and try again:\n    \
             sudo {}",
            command::describe(&install)
        );
    }
    let _policy = NoServices::declare()?;
    update_package_lists()?;
    show_and_capture(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Package managers are verbose: what they say is shown when they fail.
fn show_and_capture(install: &mut Command) -> Result<()> {
    term::command(&command::describe(install));
    command::capture(install).map(drop)
}

/// While this lives, installing a package starts no service: nginx is run by
/// the tasks, on a port of theirs, and port 80 is none of our business.
struct NoServices {
    ours: bool,
}

impl NoServices {
    /// Where Debian's maintainer scripts ask whether they may start a service.
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn declare() -> Result<Self> {
        if Path::new(Self::POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs_err::write(Self::POLICY, "#!/bin/sh\nexit 101\n")?;
        let policy = Self { ours: true };
        fs_err::set_permissions(Self::POLICY, Permissions::from_mode(0o755))
            .context("cannot keep packages from starting services")?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs_err::remove_file(Self::POLICY)
        {
            term::note(&format!("remove it by hand: {error}"));
        }
    }
}
