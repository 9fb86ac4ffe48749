//! The two options that matter even where the command line does not parse.

use std::ffi::OsString;

use clap::ValueEnum as _;

use super::ColorWhen;

/// How to say that a command line does not parse, or print its help.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Early {
    pub(crate) json: bool,
    pub(crate) color: ColorWhen,
}

impl Early {
    /// Looks for `--json` and `--color` before a `--`, whatever stands around them.
    pub(crate) fn scan(args: impl IntoIterator<Item = OsString>) -> Self {
        let mut found = Self::default();
        let mut args = args.into_iter().skip(1).take_while(|arg| arg != "--").peekable();
        while let Some(arg) = args.next() {
            let Some(arg) = arg.to_str() else { continue };
            let color = match arg {
                "--json" => {
                    found.json = true;
                    continue;
                }
                "--color" => args.peek().and_then(|value| value.to_str()),
                _ => arg.strip_prefix("--color="),
            };
            if let Some(color) = color.and_then(|value| ColorWhen::from_str(value, false).ok()) {
                found.color = color;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_wherever_they_stand() {
        let scan = |line: &str| Early::scan(line.split(' ').map(OsString::from));
        let json = |color| Early { json: true, color };
        assert_eq!(scan("smolvm image pul --json"), json(ColorWhen::Auto));
        assert_eq!(scan("smolvm --color never --json x"), json(ColorWhen::Never));
        assert_eq!(scan("smolvm --json --color=always"), json(ColorWhen::Always));
        assert_eq!(scan("smolvm --color"), Early::default());
        assert_eq!(scan("smolvm image pull -- --json"), Early::default());
    }
}
