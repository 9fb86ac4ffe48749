//! A home directory, a server with images, and the binary run between them.

use std::fmt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use smolvm_testkit::content::{noise, sha256_hex};
use smolvm_testkit::{Route, Server};
use tempfile::TempDir;

/// Bytes of a kernel.
pub(crate) const KERNEL: usize = 50_000;
/// Bytes of a root file system.
pub(crate) const ROOTFS: usize = 3 << 20;

/// A server, and a home whose registry names what it serves.
pub(crate) struct Site {
    pub(crate) server: Server,
    home: TempDir,
}

/// How one run of the binary ended.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// A site without images but the built-in ones, which nothing can fetch from here.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs_err::create_dir(home.path().join(".smolvm")).unwrap();
        Self { server: Server::start(), home }
    }

    /// A site with the pinned image `dev`.
    pub(crate) fn with_dev() -> Self {
        let site = Self::new();
        site.serve("/kernel", Route::new(kernel()).etag("\"k\""));
        site.serve("/rootfs", Route::new(rootfs()).etag("\"r\""));
        site.register("dev", true);
        site
    }

    /// Serves `route`, in the place of what was there.
    pub(crate) fn serve(&self, path: &str, route: Route) {
        self.server.route(path, route);
    }

    /// Adds an image of `/kernel` and `/rootfs` to `~/.smolvm/registry.toml`.
    pub(crate) fn register(&self, name: &str, pinned: bool) {
        let (kernel, rootfs) = (self.server.url("/kernel"), self.server.url("/rootfs"));
        let urls = format!("kernel_url = \"{kernel}\"\nrootfs_url = \"{rootfs}\"\n");
        let pins = if pinned {
            let (kernel, rootfs) = (sha256_hex(&self::kernel()), sha256_hex(&self::rootfs()));
            format!("kernel_sha256 = \"{kernel}\"\nrootfs_sha256 = \"{rootfs}\"\n")
        } else {
            String::new()
        };
        self.append_to_registry(&format!("[images.{name}]\n{urls}{pins}"));
    }

    /// Adds text to `~/.smolvm/registry.toml`.
    pub(crate) fn append_to_registry(&self, entry: &str) {
        let path = self.home(".smolvm/registry.toml");
        let before = fs_err::read_to_string(&path).unwrap_or_default();
        fs_err::write(path, format!("{before}{entry}\n")).unwrap();
    }

    /// Empties `~/.smolvm/registry.toml`.
    pub(crate) fn forget_registry(&self) {
        fs_err::remove_file(self.home(".smolvm/registry.toml")).unwrap();
    }

    /// A path in the home directory.
    pub(crate) fn home(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// A path in the default cache.
    pub(crate) fn cache(&self, path: &str) -> PathBuf {
        self.home(".smolvm/images").join(path)
    }

    /// The binary with these arguments and nothing of the environment of the tests.
    pub(crate) fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smolvm"));
        command.args(args).env_clear().env("HOME", self.home.path()).env("TERM", "xterm");
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Runs `smolvm` with the words of `line` to its end.
    pub(crate) fn run(&self, line: &str) -> Finished {
        self.finish(&mut self.command(line.split_whitespace()))
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, command: &mut Command) -> Finished {
        self.finished(command.output().unwrap())
    }

    /// Runs `smolvm` with the words of `line`, to be waited for by [`Self::wait`].
    pub(crate) fn start(&self, line: &str) -> Child {
        let mut command = self.command(line.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits for the end of a process.
    pub(crate) fn wait(&self, child: Child) -> Finished {
        self.finished(child.wait_with_output().unwrap())
    }

    /// Replaces what differs between two runs of the tests.
    fn finished(&self, output: Output) -> Finished {
        let stable = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            let home = self.home.path().display().to_string();
            text.replace(&home, "[HOME]").replace(&self.server.host(), "[SERVER]")
        };
        Finished {
            code: output.status.code(),
            stdout: stable(output.stdout),
            stderr: in_order_of_assets(&stable(output.stderr)),
        }
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit: {code}")?,
            None => writeln!(f, "ended by a signal")?,
        }
        write!(f, "----- stdout -----\n{}----- stderr -----\n{}", self.stdout, self.stderr)
    }
}

/// Puts lines of progress in the order of the assets, which arrive side by side; the sort is
/// stable, so that those of one asset stay in their order.
fn in_order_of_assets(stderr: &str) -> String {
    let rank = |line: &&str| match line {
        line if line.contains(": kernel: ") => 1,
        line if line.contains(": rootfs: ") => 2,
        _ => 0,
    };
    let is_progress = |line: &&str| rank(line) > 0 && !line.starts_with("error");
    let mut lines: Vec<&str> = stderr.split_inclusive('\n').collect();
    for run in lines.chunk_by_mut(|one, other| is_progress(one) && is_progress(other)) {
        run.sort_by_key(rank);
    }
    lines.concat()
}

pub(crate) fn kernel() -> Vec<u8> {
    noise(1, KERNEL)
}

pub(crate) fn rootfs() -> Vec<u8> {
    noise(2, ROOTFS)
}

/// Compares all that a run printed with the recorded text, times left out.
macro_rules! assert_prints {
    ($finished:expr, $($snapshot:tt)*) => {
        insta::with_settings!({filters => vec![
            (r"\d+\.\d s\b", "[TIME]"),
            (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[DATE]"),
        ]}, {
            insta::assert_snapshot!($finished, $($snapshot)*);
        })
    };
}

pub(crate) use assert_prints;
