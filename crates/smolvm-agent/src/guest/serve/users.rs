//! The users of the guest, as `/etc/passwd` and `/etc/group` have them.

use std::fs::File;
use std::io::Read as _;

use crate::sys::launch::Credentials;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: Vec<u8>,
    pub(super) home: Vec<u8>,
    pub(super) shell: Vec<u8>,
    pub(super) credentials: Credentials,
}

/// The users and groups of the guest; without the files there are none.
#[derive(Debug, Default)]
pub(super) struct Users {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

/// The line of a user in `/etc/passwd`.
struct Account<'a> {
    name: &'a [u8],
    user: u32,
    group: u32,
    home: &'a [u8],
    shell: &'a [u8],
}

impl Users {
    /// Reads the files.
    pub(super) fn read() -> Self {
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// The user that `who` names: by name, or by `uid` or `uid:gid`, for which the guest need not
    /// have a line. `None` where there is no such user.
    pub(super) fn find(&self, who: &str) -> Option<User> {
        if let Some(account) = self.accounts().find(|account| account.name == who.as_bytes()) {
            return Some(self.user(&account, None));
        }
        let (user, group) = match who.split_once(':') {
            Some((user, group)) => (id(user.as_bytes())?, Some(id(group.as_bytes())?)),
            None => (id(who.as_bytes())?, None),
        };
        let account = self.accounts().find(|account| account.user == user);
        Some(match account {
            Some(account) => self.user(&account, group),
            None => nameless(user, group.unwrap_or(0)),
        })
    }

    /// The user who may do everything, whom every guest has.
    pub(super) fn root(&self) -> User {
        match self.accounts().find(|account| account.user == 0) {
            Some(account) => self.user(&account, None),
            None => User { name: b"root".to_vec(), home: b"/root".to_vec(), ..nameless(0, 0) },
        }
    }

    /// Where a group is asked for, it is the only one.
    fn user(&self, account: &Account<'_>, group: Option<u32>) -> User {
        let shell = if account.shell.is_empty() { SHELL } else { account.shell };
        let home = if account.home.is_empty() { b"/" } else { account.home };
        let groups = match group {
            Some(_) => Vec::new(),
            None => self.groups_of(account.name),
        };
        User {
            name: account.name.to_vec(),
            home: home.to_vec(),
            shell: shell.to_vec(),
            credentials: Credentials {
                user: account.user,
                group: group.unwrap_or(account.group),
                groups,
            },
        }
    }

    fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        lines(&self.passwd).filter_map(|line| {
            let [name, _, user, group, _, home, shell] = fields(line)?;
            (!name.is_empty()).then_some(())?;
            Some(Account { name, user: id(user)?, group: id(group)?, home, shell })
        })
    }

    /// The groups that list the user as a member.
    fn groups_of(&self, name: &[u8]) -> Vec<u32> {
        /// `NGROUPS_MAX` of Linux.
        const MAX: usize = 65536;
        let groups = lines(&self.group).filter_map(|line| {
            let [_, _, group, members] = fields(line)?;
            members.split(|&byte| byte == b',').any(|member| member == name).then_some(())?;
            id(group)
        });
        groups.take(MAX).collect()
    }
}

const SHELL: &[u8] = b"/bin/sh";

fn nameless(user: u32, group: u32) -> User {
    User {
        name: user.to_string().into_bytes(),
        home: b"/".to_vec(),
        shell: SHELL.to_vec(),
        credentials: Credentials { user, group, groups: Vec::new() },
    }
}

/// The guest's files may be of any size; no more than this is looked at.
fn read(path: &str) -> Vec<u8> {
    const LIMIT: u64 = 1024 * 1024;
    let mut content = Vec::new();
    if let Ok(file) = File::open(path) {
        // What could be read is all there is to know.
        let _ = file.take(LIMIT).read_to_end(&mut content);
    }
    content
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split(|&byte| byte == b'\n')
}

/// The first `N` fields of a line; what is missing is empty, except that there must be three.
fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut fields = [&line[..0]; N];
    let mut count = 0;
    for (field, found) in fields.iter_mut().zip(line.split(|&byte| byte == b':')) {
        *field = found;
        count += 1;
    }
    (count >= 3).then_some(fields)
}

/// A number of a user or group; the last one stands for none.
fn id(digits: &[u8]) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (is_number && id != u32::MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users {
            passwd: b"root:x:0:0:root:/root:/bin/bash\n\
                      # a comment\n\
                      daemon:*:1:1::/usr/sbin:\n\
                      broken:x:many:1::/:/bin/sh\n\
                      www:x:33:33:a web server:/var/www:/usr/sbin/nologin\n\
                      4000:x:7:7::/seven:/bin/sh"
                .to_vec(),
            group: b"adm:x:4:www,root\nssl:x:110:daemon,www\nother:x:5:wwww\nbad:x:y:www".to_vec(),
        }
    }

    #[test]
    fn a_user_is_found_by_name_with_all_groups() {
        let user = users().find("www").unwrap();
        assert_eq!(user.home, b"/var/www");
        assert_eq!(user.credentials, Credentials { user: 33, group: 33, groups: vec![4, 110] });
        assert_eq!(users().find("daemon").unwrap().shell, SHELL);
        assert_eq!(users().root().shell, b"/bin/bash");
    }

    #[test]
    fn a_user_is_found_by_number() {
        assert_eq!(users().find("33").unwrap().name, b"www");
        let grouped = users().find("33:0").unwrap();
        assert_eq!(grouped.credentials, Credentials { user: 33, group: 0, groups: vec![] });
        let nobody = users().find("1234").unwrap();
        assert_eq!(nobody.credentials, Credentials { user: 1234, group: 0, groups: vec![] });
        assert_eq!(nobody.home, b"/");
        assert_eq!(users().find("4000").unwrap().credentials.user, 7, "a name of digits");
    }

    #[test]
    fn there_are_no_other_users() {
        for who in ["", "nobody", "broken", "-1", "+1", "1:", ":1", "1:x", "4294967295", "#"] {
            assert_eq!(users().find(who), None, "{who:?}");
        }
    }

    #[test]
    fn a_guest_without_the_files_has_root() {
        let root = Users::default().root();
        assert_eq!(root.home, b"/root");
        assert_eq!(root.credentials, Credentials { user: 0, group: 0, groups: vec![] });
    }
}
