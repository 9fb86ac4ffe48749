//! [`Place`]: where in a registry file something is wrong, shown without the secrets that may
//! stand there.

/// A place in a text, for a message.
#[derive(Debug)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// The line with a mark under the column.
    pub(super) snippet: String,
}

impl Place {
    /// The place of a byte.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[start..].chars().count() + 1;
        let (shown, mark) = mask(text[start..].lines().next().unwrap_or_default(), column);
        let margin = " ".repeat(line.to_string().len());
        let snippet = format!("{line} | {shown}\n{margin} | {}^", " ".repeat(mark));
        Self { line, column, snippet }
    }
}

/// A message of the parser, which may repeat what stands in the file, without credentials,
/// queries and control characters.
pub(super) fn masked(message: &str) -> String {
    mask(message, 1).0
}

/// A line without the credentials and queries of its URLs and without control characters, and
/// how many characters of it stand before the column.
fn mask(line: &str, column: usize) -> (String, usize) {
    let mut shown = String::new();
    let mut mark = 0;
    let mut rest = line;
    let mut position = 1;
    let mut in_url = false;
    while let Some(character) = rest.chars().next() {
        let end = rest.find(['"', '\'', '`', ' ']).unwrap_or(rest.len());
        // The parser of URLs takes one slash for two, and a backslash for a slash.
        let slashes = rest.strip_prefix(':').map_or(0, |after| {
            after.bytes().take_while(|byte| matches!(byte, b'/' | b'\\')).count()
        });
        in_url = (in_url || slashes > 0) && end > 0;
        let hidden = if slashes > 0 {
            let host = rest[..end].rfind('@');
            host.map(|at| (format!("{}***", &rest[..=slashes]), at))
        } else if in_url && character == '?' {
            Some(("?***".to_owned(), end))
        } else {
            None
        };
        let length = if let Some((instead, length)) = hidden {
            shown.push_str(&instead);
            length
        } else {
            shown.push(if character.is_control() { ' ' } else { character });
            character.len_utf8()
        };
        position += rest[..length].chars().count();
        rest = &rest[length..];
        if position <= column {
            mark = shown.chars().count();
        }
    }
    (shown, mark)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mark_stands_under_the_column() {
        let place = Place::of("first\nsecond line\nthird", 13);
        assert_eq!((place.line, place.column), (2, 8));
        assert_eq!(place.snippet, "2 | second line\n  |        ^");
    }

    #[test]
    fn neither_credentials_nor_queries_nor_escapes_are_shown() {
        let place = Place::of("url = \"http://a:b@h/x?t=s\" \x1b[0m", 0);
        assert!(place.snippet.contains("http://***@h/x?***\"  [0m"), "{}", place.snippet);
    }

    #[test]
    fn what_a_parser_repeats_is_masked() {
        for (message, shown) in [
            (
                "invalid type: string \"https://u:p@h/x?sig=s\", expected",
                "invalid type: string \"https://***@h/x?***\", expected",
            ),
            ("unknown field `http:/u:p@h/x`, expected", "unknown field `http:/***@h/x`, expected"),
            ("\"http:\\\\u:p@h\"", "\"http:\\\\***@h\""),
            ("is it? yes: no", "is it? yes: no"),
        ] {
            assert_eq!(masked(message), shown);
        }
    }

    proptest! {
        #[test]
        fn no_password_is_shown(scheme in "[a-z]{2,5}", slashes in "[/\\\\]{1,3}", quote in "[\"'`]") {
            let line = format!("x = {quote}{scheme}:{slashes}user:hunter2@host/path?k=hunter2{quote}");
            prop_assert!(!masked(&line).contains("hunter2"), "{}", masked(&line));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,200}", offset in 0usize..300) {
            let _ = Place::of(&text, offset);
        }
    }
}
