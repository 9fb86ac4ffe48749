//! [`Jail`]: what a jail is made of, and its form as arguments of a program.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// A jail for Firecracker, which its own `jailer` puts it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// The number of the user and the group that the VMM becomes.
    pub user: u32,
    /// The directory of the VMM's sockets, [`SOCKETS`] inside. It belongs to that user from then on.
    pub sockets: PathBuf,
    /// The directory of files that the VMM is told of while it runs, [`FILES`] inside.
    pub directory: PathBuf,
    /// The jailer.
    pub jailer: PathBuf,
    /// What it puts into the jail.
    pub program: PathBuf,
    /// Whether its network is one of its own, with nothing in it; else it is that of its maker.
    pub has_own_network: bool,
    /// How long the files may become that the VMM writes, in bytes.
    pub file_size: u64,
    /// How many files it may have open.
    pub open_files: u64,
    /// What it finds in the jail.
    pub files: Vec<JailFile>,
    /// What the VMM is started with.
    pub arguments: Vec<OsString>,
}

/// A file in a jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JailFile {
    /// The number of a descriptor of it that the maker of the jail has.
    pub number: i32,
    /// Its name in the root of the jail.
    pub name: String,
    /// What it is there.
    pub access: JailAccess,
}

/// What a file is in a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JailAccess {
    /// A copy to read, until the agent in the guest answers.
    Copy,
    /// The file itself, to read and write; it belongs to the VMM's user from then on.
    Own,
    /// The file itself, to read; it stays as it is.
    Read,
    /// The file itself, to read and write; it stays whose it is.
    Write,
}

/// The first argument of a supervisor that is to keep a jail.
pub const ROLE: &str = "jail";
/// The directory of sockets in a jail. It is the jailer's.
pub const SOCKETS: &str = "/run";
/// The directory of further files in a jail.
pub const FILES: &str = "/files";
/// Where a VMM in a jail writes what it has to say of itself.
pub const LOG: &str = "/vmm.log";

impl Jail {
    /// The arguments of a supervisor that is to keep this jail; the first is [`ROLE`].
    #[must_use]
    pub fn encode(&self) -> Vec<OsString> {
        let network = if self.has_own_network { "own" } else { "given" };
        let mut words: Vec<OsString> = vec![ROLE.into(), self.user.to_string().into()];
        words.extend([&self.sockets, &self.directory, &self.jailer, &self.program].map(Into::into));
        words.extend([network.into(), self.file_size.to_string().into()]);
        words.extend([self.open_files.to_string().into(), self.files.len().to_string().into()]);
        for file in &self.files {
            words.push(format!("{} {} {}", file.access.word(), file.number, file.name).into());
        }
        words.extend(self.arguments.iter().cloned());
        words
    }

    /// Reads what [`encode`](Self::encode) has written, but for the first of it.
    pub fn decode(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let user = number(&words.next()?)?;
        let (sockets, directory) = (words.next()?.into(), words.next()?.into());
        let (jailer, program) = (words.next()?.into(), words.next()?.into());
        let has_own_network = match words.next()?.to_str()? {
            "own" => true,
            "given" => false,
            _ => return None,
        };
        let (file_size, open_files) = (number(&words.next()?)?, number(&words.next()?)?);
        let count: usize = number(&words.next()?)?;
        let files = words.by_ref().take(count).map(|word| JailFile::decode(&word));
        let files = files.collect::<Option<Vec<_>>>().filter(|files| files.len() == count)?;
        Some(Self {
            user,
            sockets,
            directory,
            jailer,
            program,
            has_own_network,
            file_size,
            open_files,
            files,
            arguments: words.collect(),
        })
    }
}

impl JailFile {
    fn decode(word: &OsStr) -> Option<Self> {
        let mut words = word.to_str()?.splitn(3, ' ');
        let access = words.next()?;
        let access = JailAccess::ALL.into_iter().find(|known| known.word() == access)?;
        let (number, name) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        // It is one in the jail and nowhere else.
        let is_name = !matches!(name.as_str(), "" | "." | "..") && !name.contains('/');
        is_name.then_some(Self { number, name, access })
    }
}

impl JailAccess {
    const ALL: [Self; 4] = [Self::Copy, Self::Own, Self::Read, Self::Write];

    fn word(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Own => "own",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

fn number<T: std::str::FromStr>(word: &OsStr) -> Option<T> {
    word.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jail() -> Jail {
        let file = |number, name: &str, access| JailFile { number, name: name.into(), access };
        Jail {
            user: 1_879_048_193,
            sockets: "/run/smolvm/a b/vmm".into(),
            directory: "/root/.smolvm/vms/a/vmm".into(),
            jailer: "/opt/jailer".into(),
            program: "/opt/firecracker".into(),
            has_own_network: true,
            file_size: 1 << 40,
            open_files: 2048,
            files: vec![
                file(10, "kernel", JailAccess::Copy),
                file(11, "base", JailAccess::Read),
                file(12, "the disk", JailAccess::Own),
            ],
            arguments: ["--api-sock", "/run/api.sock"].map(Into::into).to_vec(),
        }
    }

    #[test]
    fn what_a_jail_is_made_of_is_passed_on() {
        let words = jail().encode();
        assert_eq!(words[0], ROLE);
        assert_eq!(Jail::decode(words.into_iter().skip(1)), Some(jail()));
    }

    #[test]
    fn a_file_is_in_the_jail_and_nowhere_else() {
        for word in ["read 10 ../etc", "read 10 ..", "read 10 ", "take 10 a", "read x a", "read 10"]
        {
            assert_eq!(JailFile::decode(word.as_ref()), None, "{word}");
        }
        let short = jail().encode().into_iter().skip(1).take(9);
        assert_eq!(Jail::decode(short), None);
    }
}
