//! What can be typed about virtual machines: `smolvm run`, `smolvm vm …`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use smolvm::{Destination, Digest};

use super::{help, values};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The image to boot; it is fetched if it is not cached
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) exec: ExecArgs,
    /// The command and its arguments; the guest's shell if there are none
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Make a VM that stays, and print its id; it is not started
    #[command(after_help = help::VM_CREATE)]
    Create(CreateArgs),
    /// Boot VMs; returns when they run commands
    Start {
        /// The VMs to boot
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// Give a guest this many seconds to boot
        #[arg(long, value_name = "SECS", default_value_t = 30)]
        boot_timeout: u64,
    },
    /// List the VMs of this user
    #[command(visible_alias = "list")]
    Ls,
    /// Run a command in a running VM, with its streams and exit code passed on
    #[command(after_help = help::VM_EXEC)]
    Exec {
        /// The VM
        id: String,
        #[command(flatten)]
        exec: ExecArgs,
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Open a shell in a running VM
    Shell {
        /// The VM
        id: String,
    },
    /// Print what a VM's console has said
    Logs {
        /// The VM
        id: String,
    },
    /// Copy files between this host and a running VM
    #[command(after_help = help::VM_CP)]
    Cp {
        /// What to copy: a path, or ID:path for one in a VM
        source: OsString,
        /// Where to: a path, or ID:path for one in a VM
        destination: OsString,
    },
    /// End the guests of VMs; their disks stay
    Stop {
        /// The VMs to stop
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// Give a guest this many seconds to end in order
        #[arg(long, value_name = "SECS", default_value_t = 3)]
        timeout: u64,
    },
    /// Have VMs stand still; their memory stays
    Pause {
        /// The VMs to pause
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Let paused VMs go on
    Resume {
        /// The VMs to resume
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Write down what a VM is at this moment, memory and disk; it goes on
    #[command(after_help = help::VM_SNAPSHOT)]
    Snapshot {
        /// The VM
        id: String,
        /// Where to: a directory that is not there yet
        directory: PathBuf,
    },
    /// Make a VM that goes on from a snapshot and stays, and print its id
    #[command(after_help = help::VM_RESTORE)]
    Restore(RestoreArgs),
    /// Remove VMs with their disks, running or not
    #[command(visible_alias = "remove")]
    Rm {
        /// The VMs to remove
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Remove what killed programs have left, and VMs that have long been stopped, with their disks
    #[command(after_help = help::VM_PRUNE)]
    Prune(VmPruneArgs),
    /// Show all that is known of a VM
    Inspect {
        /// The VM
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VmPruneArgs {
    /// Show what would be removed, and remove nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Also VMs that have not run for this long: 30d, 12h, 0s for all that do not run
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) older_than: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The image to boot; it is fetched if it is not cached
    pub(crate) image: String,
    /// Name the VM; a name is made up otherwise
    #[arg(long)]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot
    pub(crate) directory: PathBuf,
    /// Name the VM; a name is made up otherwise
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Refuse a snapshot that does not have this digest, as `vm snapshot --json` tells it
    #[arg(long, value_name = "SHA256")]
    pub(crate) digest: Option<Digest>,
    /// Give the guest this many seconds to answer
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    pub(crate) timeout: u64,
}

/// What a VM is to be.
#[derive(Debug, Args)]
pub(crate) struct MachineArgs {
    /// Give the VM this much memory: MiB, or a number with KiB, MiB or GiB
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = values::memory)]
    pub(crate) mem: u32,
    /// Give the VM this many processors; 2, or 1 where they are emulated
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    /// What the guest's network is: this user's, a tap device (as root), or none
    #[arg(long, value_enum, default_value_t)]
    pub(crate) net: NetworkName,
    /// Let the guest reach nothing but this (repeat it for more): an address, a network or a name,
    /// with :PORT for one port alone
    #[arg(long, value_name = "DESTINATION", conflicts_with = "egress")]
    pub(crate) allow: Vec<Destination>,
    /// What the guest reaches through its network: all but this host, link-local and metadata
    /// addresses, or nothing
    #[arg(long, value_enum, default_value_t)]
    pub(crate) egress: EgressName,
    /// Run the VM by this program
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: BackendName,
    /// Let the guest run VMs itself
    #[arg(long)]
    pub(crate) nested: bool,
    /// Grow the disk to this size, in bytes or with MiB, GiB or TiB
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) disk_size: Option<u64>,
    /// Give the guest this many seconds to boot
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    pub(crate) boot_timeout: u64,
}

/// How a command runs in a guest.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Set a variable for the command; NAME alone takes the value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Run in this directory of the guest
    #[arg(long, short, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
    /// Run as this user of the guest: a name, uid or uid:gid
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Kill the command after this many seconds, with exit code 124
    #[arg(long, value_name = "SECS")]
    pub(crate) timeout: Option<u64>,
    /// Pass standard input on; this is so in any case
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Run the command in a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
}

/// What runs a VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// The best that this host has for it
    #[default]
    Auto,
    /// QEMU
    Qemu,
    /// Firecracker, by KVM alone
    Firecracker,
}

/// What a guest can reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkName {
    #[default]
    User,
    Tap,
    None,
}

/// What a guest reaches through its network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EgressName {
    #[default]
    All,
    Nothing,
}
