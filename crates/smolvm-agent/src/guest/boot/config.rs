//! What the host wants of the boot: a file in the initial RAM disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::BootError;

/// Where the host puts it.
pub(super) const PATH: &str = "/smolvm/boot";

/// What the host wants. The file has one `key=value` a line; unknown keys are for later agents.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// `root`: the device with the root file system.
    pub(super) root: PathBuf,
    /// `scratch`: the device with a file system for all that the guest writes; the root's is then
    /// only read.
    pub(super) scratch: Option<PathBuf>,
    /// `init`: what runs beside the agent.
    pub(super) init: Init,
    /// `entered=1`: whether the kernel has mounted it already, and started the agent from there.
    pub(super) entered: bool,
    /// `grow=1`: whether the root's file system grows to the size of its device.
    pub(super) grow: bool,
}

/// The program that is the first process once the root file system stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// `auto`: the image's own, if it has one.
    Auto,
    /// `none`: the agent.
    None,
    /// This program of the image.
    Path(PathBuf),
}

impl Config {
    pub(super) fn read(path: &Path) -> Result<Self, BootError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) => Err(BootError::File(path.to_owned(), error)),
        }
    }

    fn parse(text: &str) -> Result<Self, BootError> {
        let mut config = Self {
            root: PathBuf::new(),
            scratch: None,
            init: Init::Auto,
            entered: false,
            grow: false,
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            let malformed = || BootError::Config(line.to_owned());
            match line.split_once('=').ok_or_else(malformed)? {
                ("root", device) => config.root = absolute(device).ok_or_else(malformed)?,
                ("scratch", device) => {
                    config.scratch = Some(absolute(device).ok_or_else(malformed)?);
                }
                ("init", "auto") => config.init = Init::Auto,
                ("init", "none") => config.init = Init::None,
                ("init", path) => config.init = Init::Path(absolute(path).ok_or_else(malformed)?),
                ("entered", "1") => config.entered = true,
                ("grow", "1") => config.grow = true,
                ("grow", "0") => config.grow = false,
                ("grow", _) => return Err(malformed()),
                _ => {}
            }
        }
        if config.root.as_os_str().is_empty() {
            return Err(BootError::Config("root= is missing".to_owned()));
        }
        Ok(config)
    }
}

fn absolute(path: &str) -> Option<PathBuf> {
    Path::new(path).is_absolute().then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_are_read_and_unknown_ones_passed_over() {
        let text = "root=/dev/vda\nscratch=/dev/vdb\ninit=/opt/a=b\nentered=1\ngrow=1\n\nlater=x\n";
        let config = Config {
            root: "/dev/vda".into(),
            scratch: Some("/dev/vdb".into()),
            init: Init::Path("/opt/a=b".into()),
            entered: true,
            grow: true,
        };
        assert_eq!(Config::parse(text).unwrap(), config);
    }

    #[test]
    fn the_root_alone_is_enough() {
        let config = Config::parse("root=/dev/vda").unwrap();
        assert_eq!((config.scratch, config.init, config.grow), (None, Init::Auto, false));
        assert_eq!(Config::parse("root=/dev/vda\ninit=none").unwrap().init, Init::None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for line in ["root=vda", "scratch=", "init=bin/sh", "grow=yes", "grow"] {
            let error = Config::parse(&format!("root=/dev/vda\n{line}\n")).unwrap_err();
            assert!(error.to_string().contains(line), "{error}");
        }
        assert!(Config::parse("").unwrap_err().to_string().contains("root="));
    }
}
