//! [`Netrc`]: passwords by host, from the file that ftp, curl and git read too.
//!
//! The format is that of the manual page netrc(5), with curl's additions: values in double quotes
//! (with `\"`, `\\`, `\n`, `\r`, `\t`) and comments from `#` to the end of the line.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// A parsed file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Netrc(Vec<Entry>);

#[derive(Clone, Default, PartialEq, Eq)]
struct Entry {
    /// `None` is the `default` entry, which fits every host.
    machine: Option<String>,
    login: String,
    password: String,
}

impl Netrc {
    /// Reads the text of a file. Every text is one: words that mean nothing are skipped.
    pub(super) fn parse(text: &str) -> Self {
        let mut words = Words(text.chars().peekable());
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(keyword) = words.keyword() {
            match keyword.as_str() {
                "machine" => {
                    let machine = Some(words.value());
                    entries.push(Entry { machine, ..Entry::default() });
                }
                "default" => entries.push(Entry::default()),
                "macdef" => words.skip_macro(),
                "login" => {
                    let login = words.value();
                    if let Some(entry) = entries.last_mut() {
                        entry.login = login;
                    }
                }
                "password" => {
                    let password = words.value();
                    if let Some(entry) = entries.last_mut() {
                        entry.password = password;
                    }
                }
                "account" => drop(words.value()),
                _ => {}
            }
        }
        Self(entries)
    }

    /// Login and password for a host: those of the first entry that fits, or of `default`.
    pub(super) fn find(&self, host: &str) -> Option<(&str, &str)> {
        self.first(|machine| machine.is_none_or(|machine| machine.eq_ignore_ascii_case(host)))
    }

    /// Login and password of the first entry that names the host.
    pub(super) fn find_machine(&self, host: &str) -> Option<(&str, &str)> {
        self.first(|machine| machine.is_some_and(|machine| machine.eq_ignore_ascii_case(host)))
    }

    fn first(&self, fits: impl Fn(Option<&str>) -> bool) -> Option<(&str, &str)> {
        let entry = self.0.iter().find(|entry| fits(entry.machine.as_deref()))?;
        let is_empty = entry.login.is_empty() && entry.password.is_empty();
        (!is_empty).then_some((&entry.login, &entry.password))
    }
}

/// The words of a file.
struct Words<'a>(Peekable<Chars<'a>>);

impl Words<'_> {
    /// The next word where a comment may stand too.
    fn keyword(&mut self) -> Option<String> {
        loop {
            self.skip_space();
            if self.0.peek()? != &'#' {
                return Some(self.value());
            }
            while self.0.next_if(|&c| c != '\n').is_some() {}
        }
    }

    /// The next word; empty at the end of the file. A password may begin with `#`.
    fn value(&mut self) -> String {
        self.skip_space();
        if self.0.next_if_eq(&'"').is_some() {
            return self.quoted();
        }
        let mut word = String::new();
        while let Some(c) = self.0.next_if(|c| !c.is_whitespace()) {
            word.push(c);
        }
        word
    }

    fn quoted(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.0.next_if(|&c| c != '"') {
            word.push(if c == '\\' { self.escaped() } else { c });
        }
        // The closing quote; at the end of the file there may be none.
        self.0.next();
        word
    }

    fn escaped(&mut self) -> char {
        match self.0.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(c) => c,
            None => '\\',
        }
    }

    fn skip_space(&mut self) {
        while self.0.next_if(|c| c.is_whitespace()).is_some() {}
    }

    /// A macro reaches to the next empty line.
    fn skip_macro(&mut self) {
        let mut line_is_empty = false;
        for c in self.0.by_ref() {
            match c {
                '\n' if line_is_empty => return,
                '\n' => line_is_empty = true,
                '\r' => {}
                _ => line_is_empty = false,
            }
        }
    }
}

/// Hosts only.
impl fmt::Debug for Netrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machines = self.0.iter().map(|entry| entry.machine.as_deref().unwrap_or("default"));
        f.debug_map().entries(machines.map(|machine| (machine, "***"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_found_by_host() {
        let text = "# machine commented login out\n\
            machine a login me password secret\n\
            machine b.example\n\tlogin \"my self\" # comment\n\tpassword \"a \\\"b\\\\\"\n\
            macdef init\nmachine c login not password here\n\n\
            machine hash password #1 login x account y\n\
            machine empty\n\
            default login anonymous password guest\n\
            machine late login never password found\n";
        let netrc = Netrc::parse(text);
        for (host, found) in [
            ("a", Some(("me", "secret"))),
            ("B.example", Some(("my self", "a \"b\\"))),
            ("c", Some(("anonymous", "guest"))),
            ("hash", Some(("x", "#1"))),
            ("empty", None),
            ("late", Some(("anonymous", "guest"))),
        ] {
            assert_eq!(netrc.find(host), found, "{host}");
        }
        let shown = format!("{netrc:?}");
        assert!(!shown.contains("secret") && !shown.contains("guest"), "{shown}");
    }

    #[test]
    fn a_cut_off_file_has_what_is_in_it() {
        for (text, found) in [
            ("machine a login b password", Some(("b", ""))),
            ("machine a password \"c", Some(("", "c"))),
            ("machine a password \"c\\", Some(("", "c\\"))),
            ("machine", None),
            ("login x password y", None),
            ("macdef", None),
        ] {
            assert_eq!(Netrc::parse(text).find("a"), found, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(
            text: String,
            words in "((machine|login|password|macdef|default|\"|\\\\|#|a)[ \n]?){0,20}",
        ) {
            let _ = Netrc::parse(&text).find("a");
            let _ = Netrc::parse(&words).find("a");
        }
    }
}
