//! Calls of a manager in another process: this test binary, run again with an [`Order`] in its
//! environment, also as another user.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};
use smolvm_image::{
    AssetKind, Event, FetchOptions, ImageSource, LocalImage, Registry, VerifyPolicy,
};
use smolvm_testkit::skip;

use super::bench::{Bench, builder_with};
use super::holding;

const ORDER: &str = "SMOLVM_TEST_ORDER";
/// Begins what the other process says; the test harness says more on the same stream.
const MARK: &str = "@@";

/// What another process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    program: PathBuf,
    registry: PathBuf,
    cache: PathBuf,
    image: String,
    call: Call,
    changed: bool,
    umask: Option<u32>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Call {
    Ensure,
    IsCached,
    Remove,
    Prune,
    /// Opens the image and holds it, until it is told to check its bytes, and ever after.
    Open,
    /// Opens the image and hands it on to a program that sleeps.
    HandOn,
    /// The same call again and again, against those of other processes.
    OpenMany,
    EnsureMany,
    RemoveMany,
    PruneMany,
}

/// What another process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It waits for another one that has this asset.
    Waits {
        asset: String,
        what: String,
    },
    /// It hashes what the cache has of this asset.
    Hashes {
        asset: String,
    },
    /// It has begun to receive this asset.
    Receives {
        asset: String,
    },
    /// It has this asset whole, which waits for the others.
    Has {
        asset: String,
    },
    /// The image, or whether it was cached.
    Image {
        kernel: PathBuf,
        rootfs: PathBuf,
    },
    Cached(bool),
    /// It holds the image.
    Holds,
    /// Whether what it holds has the bytes that it should.
    Whole(bool),
    /// This process has inherited the image.
    HandedOn(u32),
    Done,
    Failed {
        kind: String,
        message: String,
    },
}

impl Said {
    /// Whether nothing comes after it.
    fn is_last(&self) -> bool {
        !matches!(
            self,
            Self::Waits { .. }
                | Self::Hashes { .. }
                | Self::Receives { .. }
                | Self::Has { .. }
                | Self::Holds
                | Self::Whole(_)
                | Self::HandedOn(_)
        )
    }
}

/// Another process at work. It is killed when dropped.
pub(crate) struct OtherProcess {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Order {
    /// To fetch an image into the bench's cache.
    pub(crate) fn ensure(bench: &Bench, source: &ImageSource) -> Self {
        Self::new(bench, &bench.cache(), source)
    }

    pub(crate) fn new(bench: &Bench, cache: &Path, source: &ImageSource) -> Self {
        let registry = bench.directory().join(format!("{}.toml", source.name()));
        fs_err::write(&registry, source.to_registry_toml()).unwrap();
        // Other users reach it, and the program, from here.
        super::tree::chmod(bench.directory(), 0o755);
        super::tree::chmod(&registry, 0o644);
        let program = bench.directory().join("other-process");
        if !program.exists() {
            let own = std::env::current_exe().unwrap();
            if fs_err::hard_link(&own, &program).is_err() {
                fs_err::copy(&own, &program).unwrap();
            }
        }
        Self {
            program,
            registry,
            cache: cache.to_owned(),
            image: source.name().to_string(),
            call: Call::Ensure,
            changed: false,
            umask: None,
        }
    }

    pub(crate) fn call(mut self, call: Call) -> Self {
        self.call = call;
        self
    }

    /// Only what may have changed is to be hashed.
    pub(crate) fn only_changed(mut self) -> Self {
        self.changed = true;
        self
    }

    pub(crate) fn umask(mut self, umask: u32) -> Self {
        self.umask = Some(umask);
        self
    }

    pub(crate) fn start(&self) -> OtherProcess {
        OtherProcess::spawn(self.command())
    }

    /// Starts it as another user, without any further group.
    pub(crate) fn start_as(&self, uid: u32, gid: u32) -> OtherProcess {
        let mut command = self.command();
        // Groups that this process has are dropped on the way (`CommandExt::uid`).
        command.uid(uid).gid(gid);
        OtherProcess::spawn(command)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--exact", "other_process::obey", "--ignored", "--nocapture"])
            .env(ORDER, serde_json::to_string(self).unwrap())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }
}

/// Whether this process may become other users; says so if not.
pub(crate) fn can_become_others() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("only root can start processes of other users");
    }
    root
}

impl OtherProcess {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line to read.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next thing it says; `None` where it has ended.
    pub(crate) fn next(&mut self) -> Option<Said> {
        let mut line = String::new();
        while self.said.read_line(&mut line).unwrap() > 0 {
            if let Some((_, said)) = line.split_once(MARK) {
                return Some(serde_json::from_str(said.trim_end()).unwrap());
            }
            line.clear();
        }
        None
    }

    /// Waits until it says something that the caller waits for.
    pub(crate) fn wait_for(&mut self, expected: impl Fn(&Said) -> bool) -> Said {
        loop {
            let said = self.next().expect("it ended before it said what was waited for");
            if expected(&said) {
                return said;
            }
            assert!(!said.is_last(), "it ended with {said:?}");
        }
    }

    /// All that it still says.
    pub(crate) fn words(mut self) -> Vec<Said> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// How it ended.
    pub(crate) fn outcome(mut self) -> Said {
        self.wait_for(Said::is_last)
    }

    /// Fails unless it ended with an image.
    pub(crate) fn expect_image(self) -> (PathBuf, PathBuf) {
        match self.outcome() {
            Said::Image { kernel, rootfs } => (kernel, rootfs),
            other => panic!("no image: {other:?}"),
        }
    }

    /// Fails unless it ended with an error; gives back its kind and message.
    pub(crate) fn expect_failure(self) -> (String, String) {
        match self.outcome() {
            Said::Failed { kind, message } => (kind, message),
            other => panic!("no failure: {other:?}"),
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does what the environment orders; without an order, as in a plain `--ignored` run, nothing.
#[test]
#[ignore = "the other process of the other tests, which start it with an order"]
fn obey() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let order: Order = serde_json::from_str(&order).unwrap();
    if let Some(umask) = order.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    }
    let verify = if order.changed { VerifyPolicy::Changed } else { VerifyPolicy::Always };
    let registry = Registry::load(&order.registry).unwrap();
    let manager = builder_with(&order.cache, registry).verify(verify).build().unwrap();
    let options = FetchOptions::new().on_event(tell);
    let done = match order.call {
        Call::Ensure => {
            manager.ensure_image_with(&order.image, &options).map(|image| said_of(&image))
        }
        Call::IsCached => Ok(Said::Cached(manager.is_cached(&order.image))),
        Call::Remove => manager.remove(&order.image, &options).map(|_| Said::Done),
        Call::Prune => manager.prune(false, &FetchOptions::new()).map(|_| Said::Done),
        call => holding::obey(call, &manager, &order.image),
    };
    say(&done.unwrap_or_else(|error| Said::Failed {
        kind: format!("{:?}", error.kind()),
        message: error.to_string(),
    }));
}

fn said_of(image: &LocalImage) -> Said {
    Said::Image { kernel: image.kernel_path.clone(), rootfs: image.rootfs_path.clone() }
}

fn tell(kind: AssetKind, event: &Event) {
    let asset = kind.label().to_owned();
    match event {
        Event::Verifying { .. } => say(&Said::Hashes { asset }),
        Event::Waiting { what } => say(&Said::Waits { asset, what: what.clone() }),
        Event::Progress { done: 0, .. } => say(&Said::Receives { asset }),
        Event::Fetched { .. } => say(&Said::Has { asset }),
        _ => {}
    }
}

pub(crate) fn say(said: &Said) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more.
    let _ = writeln!(out, "{MARK}{}", serde_json::to_string(said).unwrap());
}
