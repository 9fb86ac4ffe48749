//! [`Child`]: the running test once more, in a process with an environment of its own. What a
//! manager takes from the environment cannot be set in the process of other tests.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use smolvm_testkit::content::sha256_hex;

use crate::scene::Scene;

const URL: &str = "SMOLVM_TEST_CHILD_URL";
const PIN: &str = "SMOLVM_TEST_CHILD_PIN";
const CACHE: &str = "SMOLVM_TEST_CHILD_CACHE";
const OUTCOME: &str = "SMOLVM_TEST_CHILD_OUTCOME";

/// What of the machine's own environment must not get into a test.
const NOT_INHERITED: [&str; 12] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "REQUEST_METHOD",
    "NETRC",
    "SMOLVM_BEARER_TOKENS",
    "SMOLVM_CA_FILE",
];

/// A process that fetches an image.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    test: String,
    vars: Vec<(&'static str, String)>,
}

/// What became of the fetch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The digest of the kernel under its final name.
    Fetched(String),
    /// The message of the error.
    Failed(String),
}

impl Outcome {
    /// These bytes were fetched.
    pub(crate) fn fetched(bytes: &[u8]) -> Self {
        Self::Fetched(sha256_hex(bytes))
    }

    /// The message of a fetch that failed.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Failed(message) => message,
            Self::Fetched(digest) => panic!("{digest} was fetched"),
        }
    }
}

impl Child {
    /// A child to start, in the test itself; in the child, does what it was started for and gives
    /// `None`, upon which the test returns.
    pub(crate) fn of_this_test() -> Option<Self> {
        if let Ok(url) = std::env::var(URL) {
            fetch_and_tell(&url);
            return None;
        }
        let test = std::thread::current().name().unwrap().to_owned();
        Some(Self { test, vars: Vec::new() })
    }

    /// With this variable in its environment.
    pub(crate) fn var(&self, name: &'static str, value: &str) -> Self {
        let mut child = self.clone();
        child.vars.push((name, value.to_owned()));
        child
    }

    /// Fetches into a new cache.
    pub(crate) fn fetch(&self, url: &str, pin: Option<&str>) -> Outcome {
        let temp = tempfile::tempdir().unwrap();
        let outcome = temp.path().join("outcome");
        let done = self.command(temp.path(), url, pin).env(OUTCOME, &outcome).output().unwrap();
        let text = fs_err::read_to_string(outcome).unwrap_or_default();
        match text.split_once(' ') {
            Some(("fetched", digest)) => Outcome::Fetched(digest.to_owned()),
            Some(("failed", message)) => Outcome::Failed(message.to_owned()),
            _ => panic!("the child told nothing: {}", String::from_utf8_lossy(&done.stdout)),
        }
    }

    /// The command that fetches into a cache under `directory`, to be killed for example.
    pub(crate) fn command(&self, directory: &Path, url: &str, pin: Option<&str>) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&self.test, "--exact", "--nocapture"]);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command.env("HOME", directory).env("NETRC", directory.join("no-netrc"));
        command.env(URL, url).env(PIN, pin.unwrap_or_default()).env(CACHE, directory);
        command.env(OUTCOME, directory.join("outcome"));
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }
}

fn fetch_and_tell(url: &str) {
    let pin = std::env::var(PIN).unwrap();
    let scene = Scene::on(Path::new(&std::env::var(CACHE).unwrap()));
    let told = match scene.fetch(url, Some(pin.as_str()).filter(|pin| !pin.is_empty())) {
        Ok(bytes) => format!("fetched {}", sha256_hex(&bytes)),
        Err(error) => format!("failed {error}"),
    };
    let mut outcome = fs_err::File::create(std::env::var(OUTCOME).unwrap()).unwrap();
    outcome.write_all(told.as_bytes()).unwrap();
}
