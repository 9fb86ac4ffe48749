//! The programs that ours is held against, each called as its manual says.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contender::Contender;
use super::python::PeerPython;
use super::rig::{Download, Rig};
use crate::command::{self, command};

/// What is to be fetched, by whom, into a directory for each.
pub(crate) struct Peers<'a> {
    pub(crate) rig: &'a Rig,
    pub(crate) files: Vec<Download>,
    /// Servers that vouch for themselves with this are trusted.
    pub(crate) certificate: Option<PathBuf>,
}

// What those that an aim is about are called in tables.
pub(crate) const CURL: &str = "curl";
pub(crate) const CURL_PARALLEL: &str = "curl -Z";
pub(crate) const CURL_THEN_OPENSSL: &str = "curl, then openssl dgst";
pub(crate) const ARIA2C: &str = "aria2c -x8";
pub(crate) const ARIA2C_CHECKED: &str = "aria2c -x8, checksum";
pub(crate) const PYTHON_SMOLVM: &str = "Python smolvm 0.0.36";
pub(crate) const OPENSSL: &str = "openssl dgst -sha256";
pub(crate) const NOTHING: &str = "true";

/// Connections that aria2c opens for each file.
const ARIA2C_CONNECTIONS: &str = "8";

impl Peers<'_> {
    /// curl, one file after the other.
    pub(crate) fn curl(&self) -> Contender {
        self.plain(CURL, Self::curl_command)
    }

    /// curl, all files at once.
    pub(crate) fn curl_parallel(&self) -> Contender {
        self.plain(CURL_PARALLEL, |peers, directory| {
            let mut curl = peers.curl_command(directory);
            curl.arg("-Z");
            curl
        })
    }

    /// curl, and then openssl over what it fetched.
    pub(crate) fn curl_then_openssl(&self) -> Contender {
        self.plain(CURL_THEN_OPENSSL, |peers, directory| {
            let curl = shell_words(&peers.curl_command(directory));
            let files: Vec<_> = peers.paths(directory).map(|path| quoted(&path)).collect();
            sh(&format!("{curl} && openssl dgst -sha256 {}", files.join(" ")))
        })
    }

    /// curl, hashed on its way to the disk.
    pub(crate) fn curl_tee_openssl(&self) -> Contender {
        self.plain("curl \\| tee \\| openssl dgst", |peers, directory| {
            let pipe = |file: &Download| {
                let mut curl = peers.curl_settings();
                curl.arg(&file.url);
                let path = quoted(&directory.join(&file.name));
                format!("{} | tee {path} | openssl dgst -sha256", shell_words(&curl))
            };
            sh(&peers.files.iter().map(pipe).collect::<Vec<_>>().join(" && "))
        })
    }

    /// aria2c with eight connections for each file.
    pub(crate) fn aria2c(&self) -> Contender {
        self.plain(ARIA2C, |peers, directory| peers.aria2c_command(directory, false))
    }

    /// The same, and it checks the digests.
    pub(crate) fn aria2c_checked(&self) -> Contender {
        self.plain(ARIA2C_CHECKED, |peers, directory| peers.aria2c_command(directory, true))
    }

    pub(crate) fn wget(&self) -> Contender {
        self.plain("wget", Self::wget_command)
    }

    /// curl, going on from a part of the only file.
    pub(crate) fn curl_continued(&self, whole: &Path, bytes: u64) -> Contender {
        let curl = self.plain("curl -C -", |peers, directory| {
            let mut curl = peers.curl_command(directory);
            curl.args(["--continue-at", "-"]);
            curl
        });
        self.after_part(curl, whole, bytes)
    }

    /// The same, and then openssl over the whole.
    pub(crate) fn curl_continued_then_openssl(&self, whole: &Path, bytes: u64) -> Contender {
        let both = self.plain("curl -C -, then openssl dgst", |peers, directory| {
            let mut curl = peers.curl_command(directory);
            curl.args(["--continue-at", "-"]);
            let files: Vec<_> = peers.paths(directory).map(|path| quoted(&path)).collect();
            let openssl = format!("openssl dgst -sha256 {}", files.join(" "));
            sh(&format!("{} && {openssl}", shell_words(&curl)))
        });
        self.after_part(both, whole, bytes)
    }

    /// wget, going on from a part of the only file.
    pub(crate) fn wget_continued(&self, whole: &Path, bytes: u64) -> Contender {
        let wget = self.plain("wget -c", |peers, directory| {
            let mut wget = peers.wget_command(directory);
            wget.arg("--continue");
            wget
        });
        self.after_part(wget, whole, bytes)
    }

    /// Puts the first bytes of a file where a peer looks for them.
    fn after_part(&self, peer: Contender, whole: &Path, bytes: u64) -> Contender {
        let names: Vec<_> = self.files.iter().map(|file| file.name.clone()).collect();
        let (whole, directory) = (whole.to_owned(), self.directory());
        peer.prepared(move || {
            for name in &names {
                let mut part = fs_err::File::create(directory.join(name))?;
                std::io::copy(&mut fs_err::File::open(&whole)?.take(bytes), &mut part)?;
            }
            Ok(())
        })
    }

    pub(crate) fn pooch(&self) -> Contender {
        self.python("pooch", PeerPython::pooch)
    }

    /// The Python package of our name.
    pub(crate) fn python_smolvm(&self) -> Contender {
        self.python(PYTHON_SMOLVM, PeerPython::smolvm)
    }

    fn python(
        &self,
        name: &str,
        command: impl FnOnce(&PeerPython, &[Download], &Path) -> Command,
    ) -> Contender {
        match &self.rig.python {
            Ok(python) => {
                self.plain(name, |peers, directory| command(python, &peers.files, directory))
            }
            Err(reason) => Contender::missing(name, reason.clone()),
        }
    }

    /// A peer whose command is made once, into an empty directory of its own.
    fn plain(&self, name: &str, command: impl FnOnce(&Self, &Path) -> Command) -> Contender {
        let directory = self.directory();
        let made = command(self, &directory);
        Contender::new(name, move || copy_of(&made)).into_empty(&directory)
    }

    fn directory(&self) -> PathBuf {
        self.rig.scratch.join("peer")
    }

    fn curl_settings(&self) -> Command {
        let mut curl = program("curl");
        curl.args(["--disable", "--silent", "--show-error", "--fail", "--noproxy", "*"]);
        if let Some(certificate) = &self.certificate {
            curl.arg("--cacert").arg(certificate);
        }
        curl
    }

    fn curl_command(&self, directory: &Path) -> Command {
        let mut curl = self.curl_settings();
        for file in &self.files {
            curl.arg("-o").arg(directory.join(&file.name)).arg(&file.url);
        }
        curl
    }

    fn wget_command(&self, directory: &Path) -> Command {
        let mut wget = program("wget");
        wget.args(["--quiet", "--no-config", "--directory-prefix"]).arg(directory);
        if let Some(certificate) = &self.certificate {
            wget.arg("--ca-certificate").arg(certificate);
        }
        wget.args(self.files.iter().map(|file| &file.url));
        wget
    }

    fn aria2c_command(&self, directory: &Path, checked: bool) -> Command {
        // What differs between the files can only be said in a list.
        let entry = |file: &Download| {
            let checksum = if checked {
                format!("  checksum=sha-256={}\n", file.sha256)
            } else {
                String::new()
            };
            format!("{}\n  out={}\n{checksum}", file.url, file.name)
        };
        let list: String = self.files.iter().map(entry).collect();
        let mut aria2c = program("aria2c");
        aria2c.args(["--no-conf", "--quiet", "--file-allocation=none", "--min-split-size=1M"]);
        for option in ["-x", "-s"] {
            aria2c.args([option, ARIA2C_CONNECTIONS]);
        }
        aria2c.args(["-j", "2", "-d"]).arg(directory);
        if let Some(certificate) = &self.certificate {
            aria2c.arg("--ca-certificate").arg(certificate);
        }
        sh(&format!("printf %s {} | {} -i -", quoted_text(&list), shell_words(&aria2c)))
    }

    fn paths<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        self.files.iter().map(|file| directory.join(&file.name))
    }
}

/// What `openssl` takes for the digests of files alone.
pub(crate) fn openssl(files: &[PathBuf]) -> Contender {
    let files = files.to_vec();
    Contender::new(OPENSSL, move || {
        let mut openssl = program("openssl");
        openssl.args(["dgst", "-sha256"]).args(&files);
        openssl
    })
}

/// The least that a process takes here.
pub(crate) fn nothing() -> Contender {
    Contender::new(NOTHING, || program("true"))
}

/// A program with none of the user's settings for clients of HTTP.
fn program(name: &str) -> Command {
    let mut program = command(name);
    command::without_settings(&mut program);
    program
}

/// A command line of the shell.
pub(crate) fn sh(line: &str) -> Command {
    let mut shell = program("sh");
    shell.args(["-c", line]);
    shell
}

/// The same command once more: one that has run cannot be run again with other streams.
pub(super) fn copy_of(command: &Command) -> Command {
    let mut copy = self::command(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    copy
}

/// A command as the shell reads it.
pub(crate) fn shell_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted_text(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(path: &Path) -> String {
    quoted_text(&path.to_string_lossy())
}

fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
