//! [`Version`]: what version a program says that it is of.

use std::fmt;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// A version, such as 7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// The version of a program, which says it after `prefix`; an error is what it says instead.
    pub(super) fn of(program: &Path, prefix: &str) -> Result<Self, String> {
        let output = Command::new(program).arg("--version").output();
        let output = output.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        Self::parse(&said, prefix).ok_or_else(|| format!("it says {:?}", said.lines().next()))
    }

    /// `QEMU emulator version 7.2.22 (Debian …)`.
    fn parse(said: &str, prefix: &str) -> Option<Self> {
        let version = said.strip_prefix(prefix)?;
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_what_stands_after_the_name() {
        let qemu = |said| Version::parse(said, "QEMU emulator version ");
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(qemu(debian), Some(Version(7, 2)));
        assert_eq!(qemu("QEMU emulator version 10.0.2"), Some(Version(10, 0)));
        assert_eq!(qemu("qemu 7"), None);
        let firecracker = |said| Version::parse(said, "Firecracker v");
        assert_eq!(firecracker("Firecracker v1.12.1\n\nand more"), Some(Version(1, 12)));
        assert_eq!(firecracker("Firecracker v1.17.0-dev"), Some(Version(1, 17)));
        assert_eq!(firecracker("QEMU emulator version 7.2"), None);
        assert!(Version(6, 9) < Version(7, 2) && Version(10, 0) > Version(7, 2));
    }

    #[test]
    fn a_program_that_tells_none_is_quoted() {
        let said = Version::of(Path::new("/bin/echo"), "QEMU emulator version ").unwrap_err();
        assert!(said.starts_with("it says "), "{said}");
        assert!(Version::of(Path::new("/no/such/program"), "").is_err());
    }
}
