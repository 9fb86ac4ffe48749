//! Recognises by its first bytes what is surely no kernel, initrd or root file system: the page
//! that a server sends in place of one.

/// How many first bytes are looked at.
pub(crate) const HEAD: usize = 512;

/// What the bytes are, as `an HTML page`, where they are surely not an asset of an image.
pub(crate) fn not_an_image(head: &[u8]) -> Option<&'static str> {
    let head = &head[..head.len().min(HEAD)];
    if head.is_empty() {
        return Some("an empty file");
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if !text.is_empty()
        && text.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
    {
        return None;
    }
    let starts = |prefix: &str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if starts("<!doctype html") || starts("<html") || starts("<head") || starts("<body") {
        Some("an HTML page")
    } else if starts("<?xml") || (starts("<") && text.get(1).copied().is_some_and(is_name_start)) {
        Some("an XML document")
    } else if (starts("{") || starts("[")) && text.get(1).copied().is_none_or(is_json_next) {
        Some("a JSON document")
    } else {
        None
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'!'
}

fn is_json_next(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"{}[]0123456789-tfn".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behaviour 29: an empty file or an error page is never an image.
    #[test]
    fn error_pages() {
        for (head, content) in [
            (&b""[..], "an empty file"),
            (b"<!DOCTYPE html><p>404", "an HTML page"),
            (b"\n  <HTML>\n", "an HTML page"),
            (b"\xef\xbb\xbf<?xml version=\"1.0\"?><Error>", "an XML document"),
            (b"<Error><Code>AccessDenied</Code>", "an XML document"),
            (b"{\"message\": \"not found\"}", "a JSON document"),
            (b"[]", "a JSON document"),
        ] {
            assert_eq!(not_an_image(head), Some(content), "{}", head.escape_ascii());
        }
    }

    /// Behaviour 29: what assets begin with is let through.
    #[test]
    fn beginnings_of_assets() {
        let ext4 = [0; HEAD];
        for head in [
            &ext4[..],
            b"\x7fELF\x02\x01\x01\0",
            b"MZ\0\0",
            b"070701000002D1",
            b"\x1f\x8b\x08\0",
            b"(\xb5/\xfd",
            b"hsqs",
            b"<\0\0",
            b"any text that a test serves",
        ] {
            assert_eq!(not_an_image(head), None, "{}", head.escape_ascii());
        }
    }
}
