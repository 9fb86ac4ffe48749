//! [`FirecrackerError`]: why a machine cannot run on Firecracker.

use std::path::PathBuf;

use super::PROGRAM;
use super::jailer::JAILER;

/// Why a machine cannot run on Firecracker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirecrackerError {
    /// It is not there.
    #[error(
        "Firecracker is missing: there is no {program}. Put the program of a release (https://github.com/firecracker-microvm/firecracker/releases) into a directory of PATH, or name it in {PROGRAM}; or choose QEMU as the backend"
    )]
    Missing {
        /// The program that was looked for.
        program: String,
    },
    /// It does not say what version it is of.
    #[error("{} does not tell its version: {reason}. Reinstall it, or name another one in {PROGRAM}", program.display())]
    Broken {
        /// The program.
        program: PathBuf,
        /// What happened instead.
        reason: String,
    },
    /// It is older than what is needed.
    #[error("{} is Firecracker {}.{}, at least 1.7 is needed. Upgrade it, or name another one in {PROGRAM}", program.display(), found.0, found.1)]
    TooOld {
        /// The program.
        program: PathBuf,
        /// Its version, major and minor.
        found: (u32, u32),
    },
    /// Root starts it by its jailer, which is not there.
    #[error(
        "Firecracker's jailer is missing: there is no {program}, and root runs no guest outside a jail. Put the jailer of the same release beside Firecracker, or name it in {JAILER}; or choose QEMU as the backend; or set {JAILER}=none to run Firecracker as root all the same"
    )]
    NoJailer {
        /// The program that was looked for.
        program: String,
    },
    /// Root cannot put it into a jail.
    #[error(
        "Firecracker cannot be put into a jail: {why}. Mend that, or choose QEMU as the backend; or set {JAILER}=none to run Firecracker as root all the same"
    )]
    NoJail {
        /// Why not.
        why: String,
    },
    /// KVM does not work here, and Firecracker emulates nothing.
    #[error("Firecracker runs guests by KVM alone: {why}. Or choose QEMU as the backend")]
    NoKvm {
        /// Why KVM does not work, and what to do.
        why: String,
    },
    /// The machine is to have what only QEMU has.
    #[error("Firecracker has no {what}. {remedy}, or choose QEMU as the backend")]
    Unsupported {
        /// What it lacks.
        what: &'static str,
        /// What to ask for instead.
        remedy: &'static str,
    },
    /// It did not do what it was told.
    #[error("Firecracker did not make the VM: {reason}")]
    Api {
        /// What happened instead.
        reason: String,
    },
}
