//! [`GuestText`]: what a guest says to people, made harmless for their terminals.

use std::fmt;

/// A text that came from a guest. It holds no control characters, nothing that changes the
/// direction of writing, and at most [`GuestText::MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestText(String);

impl GuestText {
    /// The most characters that are kept.
    pub const MAX: usize = 500;

    /// Keeps what may be shown of `text`; a line break or tab becomes a space.
    pub(super) fn new(text: &str) -> Self {
        let shown = text.chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c });
        Self(shown.filter(|&c| !c.is_control() && !turns_around(c)).take(Self::MAX).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GuestText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a character makes those that follow be shown in another order (Unicode's
/// bidirectional embeddings, overrides, isolates and marks).
fn turns_around(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_anything() {
        let text = GuestText::new("\x1b]0;owned\x07no such\nfile\u{202e}txt.exe\u{9b}31m\r");
        assert_eq!(text.as_str(), "]0;ownedno such filetxt.exe31m");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(GuestText::new(&"é".repeat(4096)).as_str().chars().count(), GuestText::MAX);
    }
}
