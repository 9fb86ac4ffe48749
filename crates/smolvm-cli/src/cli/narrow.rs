//! [`narrow`]: of the commands that there are, those that a command line can be about.
//!
//! clap gives each command a copy of every global option, whether it is typed or not. To describe
//! all of them takes longer than all the rest of `smolvm image path`.

use std::ffi::OsString;

use clap::{Args as _, Subcommand as _};

use super::{GlobalOptions, ImageCommand, VmCommand};

/// The groups of commands that occur among the words, with those of their commands that do. What
/// is left out can be meant by none of them: a line that parses here, parses to the same with all
/// of [`super::Cli`]. Of a line that does not, clap has to be asked again with all of it, for this
/// has no help, and knows no other words to suggest. `None` where it can be about none of them.
pub(crate) fn narrow(words: &[OsString]) -> Option<clap::Command> {
    let image = ImageCommand::augment_subcommands as fn(_) -> _;
    let vm = VmCommand::augment_subcommands as fn(_) -> _;
    let mut groups = [("image", image), ("vm", vm)]
        .into_iter()
        .filter(|(name, _)| occurs(words, name))
        .map(|(name, all)| occurring(&all(clap::Command::new(name)), words))
        .peekable();
    groups.peek()?;
    let smolvm = GlobalOptions::augment_args(clap::Command::new("smolvm"));
    Some(smolvm.subcommand_required(true).subcommands(groups))
}

/// A group with those of its commands that occur among the words.
fn occurring(group: &clap::Command, words: &[OsString]) -> clap::Command {
    let commands = group.get_subcommands().filter(|command| {
        std::iter::once(command.get_name())
            .chain(command.get_all_aliases())
            .any(|name| occurs(words, name))
    });
    clap::Command::new(group.get_name().to_owned())
        .subcommand_required(true)
        .subcommands(commands.cloned())
}

fn occurs(words: &[OsString], name: &str) -> bool {
    words.iter().any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::Cli;

    /// What a line means to a description, or that it does not parse.
    fn meaning(description: clap::Command, words: &[OsString]) -> Option<String> {
        let mut matches = description.try_get_matches_from(words).ok()?;
        Some(format!("{:?}", Cli::from_arg_matches_mut(&mut matches).ok()?))
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_line_means_the_same_with_and_without_the_other_commands() {
        for line in [
            "smolvm image path hello",
            "smolvm image ls --json",
            "smolvm --quiet image remove --force hello vm",
            "smolvm --registry image image pull pull path --registry vm --refresh",
            "smolvm --max-size 1GiB image prune --max-size 2GiB",
            "smolvm image --offline pull hello --verify changed",
            "smolvm image pin -- --json",
            "smolvm vm list",
            "smolvm vm create image --mem 1GiB --net tap",
            "smolvm vm exec box --env A=b -- image path rm",
            "smolvm vm start image vm exec",
        ] {
            let words = words(line);
            let narrowed = narrow(&words).and_then(|narrow| meaning(narrow, &words));
            assert!(narrowed.is_some(), "{line}");
            assert_eq!(narrowed, meaning(Cli::command(), &words), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_wrong_or_asks_for_help_never_parses() {
        for line in [
            "smolvm",
            "smolvm image",
            "smolvm --version",
            "smolvm --help",
            "smolvm help image",
            "smolvm image help path",
            "smolvm image path --help",
            "smolvm image path -h hello",
            "smolvm image path",
            "smolvm image path a b",
            "smolvm image pth hello",
            "smolvm path hello",
            "smolvm image path --max-siz 1 hello",
            "smolvm image path --quiet --verbose hello",
            "smolvm run image path",
            "smolvm image vm ls",
        ] {
            let words = words(line);
            let narrowed = narrow(&words).and_then(|narrow| meaning(narrow, &words));
            assert_eq!(narrowed, None, "{line}");
        }
    }
}
