//! What an uncompressed kernel says of itself in the strings that it carries.

use std::io::{self, Read};

use memchr::memmem::Finder;

/// What the strings of a kernel tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Banner {
    pub(super) release: Option<String>,
    pub(super) supports_initrd: Option<bool>,
}

/// The first words of the line that every kernel prints first; the release follows.
const VERSION: &str = "Linux version ";

/// A boot parameter of the code that unpacks an initrd, and that is left out together with it.
const INITRD_PARAMETER: &str = "\0retain_initrd\0";

/// The longest release that a kernel can have (`__NEW_UTS_LEN`).
const MOST_RELEASE: usize = 64;

/// How much is looked at in one go.
const STEP: u64 = 1 << 20;

/// What is kept of one step for the next, so that nothing is cut in two unseen.
const OVERLAP: usize = VERSION.len() + MOST_RELEASE + 1;

/// No kernel is larger; what a compressed one claims to hold is not believed.
pub(super) const MOST_KERNEL: u64 = 1 << 29;

impl Banner {
    /// Searches the bytes of a kernel.
    pub(super) fn search(kernel: impl Read) -> io::Result<Self> {
        let mut kernel = kernel.take(MOST_KERNEL);
        let (version, parameter) = (Finder::new(VERSION), Finder::new(INITRD_PARAMETER));
        let mut release = None;
        let mut takes_initrd = false;
        let mut window = Vec::new();
        while release.is_none() || !takes_initrd {
            window.drain(..window.len().saturating_sub(OVERLAP));
            if kernel.by_ref().take(STEP).read_to_end(&mut window)? == 0 {
                break;
            }
            release = release.or_else(|| find_release(&version, &window));
            takes_initrd = takes_initrd || parameter.find(&window).is_some();
        }
        // Without the banner these are not the strings of a whole kernel, and what is missing
        // among them says nothing.
        let supports_initrd = (takes_initrd || release.is_some()).then_some(takes_initrd);
        Ok(Self { release, supports_initrd })
    }
}

fn find_release(version: &Finder<'_>, window: &[u8]) -> Option<String> {
    version.find_iter(window).find_map(|at| {
        let (word, _) = split_word(window.get(at + VERSION.len()..)?)?;
        release(word)
    })
}

fn split_word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.iter().take(MOST_RELEASE + 1).position(|byte| *byte == b' ')?)
}

/// The word as a release, where it can be the name of a directory and nothing else.
pub(super) fn release(word: &[u8]) -> Option<String> {
    let word = str::from_utf8(word).ok()?;
    let is_release = word.len() <= MOST_RELEASE
        && word.starts_with(|first: char| first.is_ascii_digit())
        && word.chars().all(|next| next.is_ascii_alphanumeric() || "._+-~".contains(next));
    is_release.then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(front: usize, strings: &[u8], back: usize) -> Vec<u8> {
        [&vec![0; front], strings, &vec![0; back]].concat()
    }

    fn search(bytes: &[u8]) -> Banner {
        Banner::search(bytes).unwrap()
    }

    #[test]
    fn a_kernel_that_takes_an_initrd() {
        let strings = b"\0Linux version 6.1.0-56-cloud-amd64 (a@b)\0\0retain_initrd\0";
        let found = search(&kernel(100, strings, 100));
        assert_eq!(found.release.as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(found.supports_initrd, Some(true));
    }

    #[test]
    fn a_kernel_without_the_code_for_it_and_one_that_does_not_tell() {
        let mut found = search(&kernel(9, b"Linux version 5.10.1 (a@b) retain_initrd_param", 9));
        assert_eq!(found.supports_initrd, Some(false));
        found = search(&kernel(9, b"no kernel", 9));
        assert_eq!(found, Banner::default());
    }

    #[test]
    fn strings_across_the_steps_are_found() {
        let strings = b"\0retain_initrd\0Linux version 6.1.0-rc1+ (a@b) #1";
        let step = usize::try_from(STEP).unwrap();
        for back in 0..strings.len() {
            let found = search(&kernel(step - back, strings, 10));
            assert_eq!(found.release.as_deref(), Some("6.1.0-rc1+"), "{back}");
            assert_eq!(found.supports_initrd, Some(true), "{back}");
        }
    }

    #[test]
    fn what_cannot_be_the_name_of_a_directory_is_no_release() {
        for banner in [
            "Linux version ../../etc (",
            "Linux version %s (",
            "Linux version 6.1/x (",
            "Linux version  (",
            "Linux version 6.1.0",
        ] {
            assert_eq!(search(banner.as_bytes()).release, None, "{banner}");
        }
        let long = format!("Linux version {} (", "1".repeat(65));
        assert_eq!(search(long.as_bytes()).release, None);
        let second = "Linux version %s (\0Linux version 6.2.0 (";
        assert_eq!(search(second.as_bytes()).release.as_deref(), Some("6.2.0"));
    }
}
