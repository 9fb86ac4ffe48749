//! Where a transfer begins, given what an earlier one left.

use crate::cache::Note;
use crate::image::Asset;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// At the first byte.
    Fresh,
    /// After the bytes that are there, if the source has not changed since, as far as this
    /// validator can tell. Without one the pin tells in the end.
    Resume { if_range: Option<String> },
    /// Nothing is missing.
    Whole,
}

/// Decides by what was noted of the `length` bytes that are there.
pub(super) fn decide(note: Option<&Note>, length: u64, asset: &Asset, boot_id: &str) -> Start {
    let pinned = asset.digest.is_some();
    if length == 0 {
        // An empty body is whole as soon as its length is known; nobody wants it pinned, though.
        return Start::Fresh;
    }
    let Some(note) = note else {
        return if pinned { Start::Resume { if_range: None } } else { Start::Fresh };
    };
    let same_source = note.url_sha256 == asset.url.fingerprint();
    if !pinned && (!same_source || note.boot_id != boot_id) {
        // Nothing vouches for bytes that may have been lost with the power.
        return Start::Fresh;
    }
    match note.total {
        Some(total) if length == total => return Start::Whole,
        Some(total) if length > total => return Start::Fresh,
        _ => {}
    }
    match &note.if_range {
        Some(validator) if same_source => Start::Resume { if_range: Some(validator.clone()) },
        _ if pinned => Start::Resume { if_range: None },
        _ => Start::Fresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::image::ImageSource;

    fn asset(pinned: bool) -> Asset {
        let pin = Digest::of(b"x").to_string();
        let pin = pinned.then_some(pin.as_str());
        let source = ImageSource::builder("x").kernel("http://h/k", pin).rootfs("http://h/r", None);
        source.build().unwrap().kernel().clone()
    }

    fn note(total: Option<u64>, if_range: Option<&str>) -> Note {
        Note {
            url_sha256: asset(false).url.fingerprint(),
            total,
            if_range: if_range.map(str::to_owned),
            etag: None,
            last_modified: None,
            boot_id: "this boot".to_owned(),
        }
    }

    fn resume(if_range: Option<&str>) -> Start {
        Start::Resume { if_range: if_range.map(str::to_owned) }
    }

    /// Behaviour 11: continues with a validator or a pin, and only then.
    #[test]
    fn what_vouches_for_the_bytes_so_far() {
        let decide =
            |note: Option<&Note>, length, pinned| decide(note, length, &asset(pinned), "this boot");
        let tagged = note(Some(10), Some("\"v1\""));
        let bare = note(Some(10), None);
        assert_eq!(decide(None, 0, true), Start::Fresh);
        assert_eq!(decide(None, 5, true), resume(None));
        assert_eq!(decide(None, 5, false), Start::Fresh);
        assert_eq!(decide(Some(&tagged), 5, false), resume(Some("\"v1\"")));
        assert_eq!(decide(Some(&tagged), 5, true), resume(Some("\"v1\"")));
        assert_eq!(decide(Some(&bare), 5, false), Start::Fresh);
        assert_eq!(decide(Some(&bare), 5, true), resume(None));
        assert_eq!(decide(Some(&tagged), 11, true), Start::Fresh);
    }

    /// Behaviour 26: a partial file that is complete needs no request.
    #[test]
    fn complete_is_complete() {
        for pinned in [true, false] {
            let decided = decide(Some(&note(Some(10), None)), 10, &asset(pinned), "this boot");
            assert_eq!(decided, Start::Whole);
        }
    }

    #[test]
    fn without_a_pin_not_in_a_later_boot_nor_from_another_url() {
        let tagged = note(Some(10), Some("\"v1\""));
        assert_eq!(decide(Some(&tagged), 5, &asset(false), "a later boot"), Start::Fresh);
        assert_eq!(decide(Some(&tagged), 10, &asset(false), "a later boot"), Start::Fresh);
        assert_eq!(decide(Some(&tagged), 5, &asset(true), "a later boot"), resume(Some("\"v1\"")));
        let elsewhere = Note { url_sha256: Digest::of(b"other"), ..tagged };
        assert_eq!(decide(Some(&elsewhere), 5, &asset(true), "this boot"), resume(None));
        assert_eq!(decide(Some(&elsewhere), 5, &asset(false), "this boot"), Start::Fresh);
    }
}
