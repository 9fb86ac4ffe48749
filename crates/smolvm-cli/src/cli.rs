//! What can be typed: the commands, their arguments and the options that all of them share.

mod early;
mod help;
mod machine;
mod narrow;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use smolvm::VerifyPolicy;

pub(crate) use early::Early;
pub(crate) use machine::{
    BackendName, CreateArgs, EgressName, ExecArgs, MachineArgs, NetworkName, RestoreArgs, RunArgs,
    VmCommand, VmPruneArgs,
};
pub(crate) use narrow::narrow;

/// Run untrusted code in microVMs, from images that are fetched, cached and validated
#[derive(Debug, Parser)]
#[command(name = "smolvm", version, after_help = help::TOP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a VM of its own, which is gone afterwards
    #[command(after_help = help::RUN)]
    Run(RunArgs),
    /// Make VMs that stay, run commands in them, end them
    #[command(subcommand, arg_required_else_help = true)]
    Vm(VmCommand),
    /// List, fetch, check and remove images
    #[command(subcommand, arg_required_else_help = true)]
    Image(ImageCommand),
    /// Say what this host has and lacks for booting and fetching
    #[command(after_help = help::DOCTOR)]
    Doctor,
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell to complete in
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images that are known or cached
    #[command(visible_alias = "ls", after_help = help::LIST)]
    List,
    /// Fetch images, or check that they are cached and whole
    #[command(after_help = help::PULL)]
    Pull(PullArgs),
    /// Hash cached images, all of them if none is named; fetch and change nothing
    #[command(after_help = help::VERIFY)]
    Verify {
        /// The images to verify
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show all that is known of an image; hash and fetch nothing
    #[command(after_help = help::INSPECT)]
    Inspect {
        /// The image
        name: String,
    },
    /// Print where the files of a cached image lie; verify nothing
    #[command(after_help = help::PATH)]
    Path(PathArgs),
    /// Print the registry entry of a cached image with the digests that were seen
    #[command(after_help = help::PIN)]
    Pin {
        /// The image
        name: String,
    },
    /// Remove images from the cache
    #[command(visible_alias = "remove", after_help = help::REMOVE)]
    Rm {
        /// The images to remove
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Also where somebody uses them: who has their files open keeps them, stopped VMs do not
        /// start any more
        #[arg(long, short)]
        force: bool,
    },
    /// Remove what the cache can do without, and old or superfluous images; never what is in use
    #[command(after_help = help::PRUNE)]
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Show what would be removed, and remove nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Also images that nobody has used for this long: 30d, 12h, 90min
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) older_than: Option<Duration>,
    /// Also images, those first that nobody has used for longest, until the cache takes at most
    /// this many bytes: 0, or a number with KiB, MiB, GiB or TiB
    // The same name as a global option, which it stands for here.
    #[arg(id = "max_size", long = "max-size", value_name = "SIZE", value_parser = values::budget)]
    pub(crate) max_size: Option<u64>,
    /// Also images of the registries with an asset whose digest they do not state
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// Not images that no registry names
    #[arg(long)]
    pub(crate) keep_unregistered: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The images to fetch
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Ask the server whether an asset without a pin has changed, and fetch it if so
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Have the disk confirm every file before it counts as cached (slower)
    #[arg(long)]
    pub(crate) sync: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// The image
    pub(crate) name: String,
    /// Print the path of this asset alone
    #[arg(long, value_enum, value_name = "ASSET")]
    pub(crate) asset: Option<AssetName>,
}

/// The assets by the names that `--asset` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AssetName {
    Kernel,
    Initrd,
    Rootfs,
}

/// The options that every command takes, before or after its name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct GlobalOptions {
    /// Keep images in this directory; blank means ~/.smolvm/images
    #[arg(long, global = true, value_name = "DIR", env = "SMOLVM_CACHE_DIR", hide_env = true)]
    pub(crate) cache_dir: Option<OsString>,
    /// Keep VMs in this directory; blank means ~/.smolvm/vms
    #[arg(long, global = true, value_name = "DIR", env = "SMOLVM_VMS_DIR", hide_env = true)]
    pub(crate) vms_dir: Option<OsString>,
    /// Read images from this TOML or JSON file too; repeatable, the last wins
    #[arg(long = "registry", global = true, value_name = "FILE", action = ArgAction::Append)]
    pub(crate) registries: Vec<PathBuf>,
    /// Never use the network; what is not cached is an error
    #[arg(
        long,
        global = true,
        env = "SMOLVM_OFFLINE",
        hide_env = true,
        value_parser = values::switch
    )]
    pub(crate) offline: bool,
    /// Hash what is cached: always, or only what may have changed (changed)
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        env = "SMOLVM_VERIFY",
        hide_env = true,
        value_parser = values::policy
    )]
    pub(crate) verify: Option<VerifyPolicy>,
    /// Have the kernel keep cached files from changing, where it can (fs-verity)
    #[arg(
        long,
        global = true,
        env = "SMOLVM_FS_VERITY",
        hide_env = true,
        value_parser = values::switch
    )]
    pub(crate) fs_verity: bool,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only what was asked for, and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on standard error; twice for the details
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Use colours: auto (on a terminal, without `NO_COLOR`), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) color: ColorWhen,
    /// Try a transfer that breaks this many times in all
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts: Option<u32>,
    /// Give an attempt up after this many seconds without a byte
    #[arg(
        long,
        global = true,
        value_name = "SECS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) stall_timeout: Option<u64>,
    /// Trust the certificates in this PEM file too, beside the system's
    #[arg(long, global = true, value_name = "FILE", env = "SMOLVM_CA_FILE", hide_env = true)]
    pub(crate) ca_file: Option<OsString>,
    /// Refuse larger assets: bytes, or a number with KiB, MiB, GiB or TiB
    #[arg(long, global = true, value_name = "SIZE", value_parser = values::size)]
    pub(crate) max_size: Option<u64>,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorWhen {
    /// Makes everything that is printed from now on follow the choice.
    pub(crate) fn apply(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
