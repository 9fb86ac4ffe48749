//! Parsers of option values that clap has none for.

use std::time::Duration;

use smolvm::VerifyPolicy;

/// Bytes from a number with an optional binary unit: `1048576`, `512MiB`, `1.5 GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 5] = [("TIB", 40), ("GIB", 30), ("MIB", 20), ("KIB", 10), ("B", 0)];
    let hint = || "give a number of bytes above 0, or one with KiB, MiB, GiB or TiB".to_owned();
    let text = text.trim().to_ascii_uppercase();
    let (number, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), *shift)))
        .unwrap_or((&text, 0));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |digits: &str| {
        (1..=12).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(hint());
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| hint())?);
    let parse = |digits: &str| digits.parse::<u128>().map_err(|_| hint());
    let bytes = ((parse(whole)? * scale + parse(fraction)?) << shift) / scale;
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(hint)
}

/// As [`size`], or nothing at all.
pub(super) fn budget(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { size(text) }
}

/// A time span such as `30d`, `12h` or `1h 30min`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let hint = || "give a time such as 30d, 12h or 90min".to_owned();
    humantime::parse_duration(text.trim()).map_err(|_| hint())
}

/// MiB from a number of them, or from bytes with a binary unit: `512`, `2GiB`.
pub(super) fn memory(text: &str) -> Result<u32, String> {
    let mebibytes = match text.trim().parse() {
        Ok(mebibytes) => mebibytes,
        Err(_) => size(text)?.div_ceil(1 << 20),
    };
    u32::try_from(mebibytes)
        .ok()
        .filter(|mebibytes| (128..=16384).contains(mebibytes))
        .ok_or_else(|| "a VM has 128 MiB to 16 GiB".to_owned())
}

/// When to hash what is cached; blank, as a variable may be, is the default.
pub(super) fn policy(text: &str) -> Result<VerifyPolicy, String> {
    match text.trim() {
        "" | "always" => Ok(VerifyPolicy::Always),
        "changed" => Ok(VerifyPolicy::Changed),
        _ => Err("it is always or changed".to_owned()),
    }
}

/// Whether a variable turns something on: what is blank or says no does not.
#[expect(clippy::unnecessary_wraps, reason = "clap takes parsers that can fail")]
pub(super) fn switch(text: &str) -> Result<bool, String> {
    let text = text.trim().to_ascii_lowercase();
    Ok(!matches!(text.as_str(), "" | "0" | "false" | "no" | "off" | "n" | "f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches() {
        for (text, on) in [("1", true), ("yes", true), ("on ", true), (" No", false), (" ", false)]
        {
            assert_eq!(switch(text), Ok(on), "{text:?}");
        }
    }

    #[test]
    fn memories() {
        for (text, mebibytes) in [("128", 128), ("512MiB", 512), ("2 gib", 2048)] {
            assert_eq!(memory(text), Ok(mebibytes), "{text:?}");
        }
        for text in ["", "127", "1", "16385", "1TiB", "-1", "x"] {
            assert!(memory(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("30d", 30 * 86_400), ("12h", 43_200), (" 1h 30min", 5400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text:?}");
        }
        for text in ["", "30", "-1d", "x", "d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!((budget("0"), budget("10GiB")), (Ok(0), Ok(10 << 30)));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            ("1.5 gib", 3 << 29),
            (" 2TiB ", 2 << 40),
            ("100B", 100),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text:?}");
        }
        for text in
            ["", "0", "0.1", "-1", "1e3", "GiB", "1.", ".5", "1MB", "99999999TiB", "1 2", "+1"]
        {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
