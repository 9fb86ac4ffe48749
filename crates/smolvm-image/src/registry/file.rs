//! Registry files: TOML or JSON to images, with the place of whatever is wrong.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::Registry;
use super::place::{Place, masked};
use crate::asset_url::AssetUrl;
use crate::digest::Digest;
use crate::image::{Asset, ImageSource};
use crate::name::{FileName, ImageName};
use crate::progress::AssetKind;
use crate::source_builder::SourceError;

/// No registry is larger, in bytes; a larger file is something else.
const MAX_SIZE: u64 = 16 << 20;

/// Why a registry file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It cannot be read.
    #[error("cannot read the registry file {}: {source}. Check its path and permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong; nothing of it is used.
    #[error("{}:{line}:{column}: {message}\n{snippet}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The line itself with a mark under the column; credentials in URLs are left out.
        snippet: String,
    },
}

impl RegistryError {
    /// Whether the file does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    images: Images,
}

/// The table of images, which may have each name once (JSON itself allows more).
#[derive(Default)]
struct Images(Registry);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kernel_url: AssetUrl,
    kernel_sha256: Option<Digest>,
    kernel_filename: Option<FileName>,
    initrd_url: Option<AssetUrl>,
    initrd_sha256: Option<Digest>,
    initrd_filename: Option<FileName>,
    rootfs_url: AssetUrl,
    rootfs_sha256: Option<Digest>,
    rootfs_filename: Option<FileName>,
    boot_args: Option<String>,
}

pub(super) fn load(path: &Path) -> Result<Registry, RegistryError> {
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        if file.take(MAX_SIZE + 1).read_to_string(&mut text)? as u64 > MAX_SIZE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
        }
        Ok(text)
    };
    let text = read().map_err(|source| RegistryError::Read { path: path.to_owned(), source })?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let parsed = if is_json { parse_json(&text) } else { parse_toml(&text) };
    parsed.map_err(|(offset, message)| misplaced(path, &text, offset, &message))
}

/// What is wrong, and at which byte.
type Misplaced = (usize, String);

fn parse_toml(text: &str) -> Result<Registry, Misplaced> {
    toml::from_str::<File>(text)
        .map(|file| file.images.0)
        .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_owned()))
}

fn parse_json(text: &str) -> Result<Registry, Misplaced> {
    serde_json::from_str::<File>(text).map(|file| file.images.0).map_err(|error| {
        let start_of_line: usize =
            text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string().replace(&place, "");
        (start_of_line + error.column().saturating_sub(1), message)
    })
}

fn misplaced(path: &Path, text: &str, offset: usize, message: &str) -> RegistryError {
    let Place { line, column, snippet } = Place::of(text, offset);
    let message = masked(message);
    RegistryError::Parse { path: path.to_owned(), line, column, message, snippet }
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ImagesVisitor)
    }
}

struct ImagesVisitor;

impl<'de> Visitor<'de> for ImagesVisitor {
    type Value = Images;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of images by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Images, A::Error> {
        let mut registry = Registry::new();
        while let Some(name) = map.next_key::<String>()? {
            let parsed = name.parse::<ImageName>().map_err(|reason| {
                A::Error::custom(format_args!("{name:?} cannot be an image's name: {reason}"))
            })?;
            let source = map
                .next_value::<Entry>()?
                .into_source(parsed)
                .map_err(|error| A::Error::custom(format_args!("image '{name}': {error}")))?;
            if registry.insert(source).is_some() {
                return Err(A::Error::custom(format_args!("image '{name}' is there twice")));
            }
        }
        Ok(Images(registry))
    }
}

impl Entry {
    fn into_source(self, name: ImageName) -> Result<ImageSource, SourceError> {
        let asset =
            |kind: AssetKind, url, digest, file_name: Option<FileName>| -> Result<_, SourceError> {
                let file_name = match file_name {
                    Some(file_name) => file_name,
                    None => kind.default_file_name().parse().map_err(|reason| {
                        let name = kind.default_file_name().to_owned();
                        SourceError::FileName { field: format!("{kind}_filename"), name, reason }
                    })?,
                };
                Ok(Asset { kind, url, digest, file_name })
            };
        let initrd = match (self.initrd_url, &self.initrd_sha256, &self.initrd_filename) {
            (Some(url), _, _) => {
                Some(asset(AssetKind::Initrd, url, self.initrd_sha256, self.initrd_filename)?)
            }
            (None, Some(_), _) => return Err(SourceError::NoInitrd("initrd_sha256")),
            (None, _, Some(_)) => return Err(SourceError::NoInitrd("initrd_filename")),
            (None, None, None) => None,
        };
        let kernel =
            asset(AssetKind::Kernel, self.kernel_url, self.kernel_sha256, self.kernel_filename)?;
        let rootfs =
            asset(AssetKind::Rootfs, self.rootfs_url, self.rootfs_sha256, self.rootfs_filename)?;
        ImageSource::from_parts(name, kernel, initrd, rootfs, self.boot_args)
    }
}

pub(super) fn entry_to_toml(source: &ImageSource) -> String {
    // A TOML basic string (TOML 1.0, "String") escapes as JSON does.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut lines = vec![format!("[images.{}]", quote(source.name()))];
    for asset in source.assets() {
        let kind = asset.kind;
        lines.push(format!("{kind}_url = {}", quote(asset.url.expose().as_str())));
        if let Some(digest) = asset.digest {
            lines.push(format!("{kind}_sha256 = \"{digest}\""));
        }
        if asset.file_name.as_str() != kind.default_file_name() {
            lines.push(format!("{kind}_filename = {}", quote(&asset.file_name)));
        }
    }
    if let Some(boot_args) = source.boot_args() {
        lines.push(format!("boot_args = {}", quote(boot_args)));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load_text(extension: &str, text: &str) -> Result<Registry, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("registry.{extension}"));
        fs_err::write(&path, text).unwrap();
        let place = dir.path().display().to_string();
        load(&path).map_err(|error| error.to_string().replace(&place, ""))
    }

    const GOOD: &str = r#"
[images.debian-12]
kernel_url = "http://127.0.0.1:8080/vmlinuz"
kernel_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
rootfs_url = "file:///srv/rootfs.ext4"
boot_args = "console=ttyS0 \"quoted\""
initrd_url = "http://h/initrd"
kernel_filename = "vmlinuz"
"#;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = load_text("toml", GOOD).unwrap();
        let json = r#"{"images": {"debian-12": {
            "kernel_url": "http://127.0.0.1:8080/vmlinuz",
            "kernel_sha256": "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
            "rootfs_url": "file:///srv/rootfs.ext4", "rootfs_sha256": null,
            "boot_args": "console=ttyS0 \"quoted\"",
            "initrd_url": "http://h/initrd",
            "kernel_filename": "vmlinuz"}}}"#;
        assert_eq!(toml, load_text("json", json).unwrap());
    }

    #[test]
    fn an_entry_reads_back() {
        let registry = load_text("toml", GOOD).unwrap();
        let text = registry.get("debian-12").unwrap().to_registry_toml();
        assert_eq!(load_text("toml", &text).unwrap(), registry, "{text}");
    }

    /// Behaviour 39: refused as a whole, with file, line and column.
    #[test]
    fn what_is_wrong_is_placed() {
        let twice = format!("{GOOD}{GOOD}");
        for (extension, text, expected) in [
            ("toml", "images = 3", "/registry.toml:1:10: "),
            ("toml", "[imagse.x]", "/registry.toml:1:2: unknown field `imagse`"),
            ("toml", &*twice, "/registry.toml:10:9: "),
            ("toml", &GOOD.replace("boot_args", "bootargs"), "/registry.toml:6:1: unknown field"),
            ("toml", &GOOD.replace("ba78", "zz78"), "/registry.toml:4:17: 'z' is not a hex"),
            ("toml", &GOOD.replace("\"ba7816bf", "\"  "), "/registry.toml:4:17: a SHA-256"),
            ("toml", &GOOD.replace("http://127", "gopher://127"), "/registry.toml:3:14: URLs of"),
            ("toml", &GOOD.replace("\"vmlinuz\"", "\"../vm\""), "/registry.toml:8:19: a name does"),
            ("toml", &GOOD.replace("debian-12", "\"a/b\""), "\"a/b\" cannot be an image's name"),
            ("toml", &GOOD.replace("initrd_url = \"http://h/initrd\"", "initrd_sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""), "needs an initrd_url"),
            ("json", "{\"images\": {\"x\": {}, \"x\": {}}}", "/registry.json:1:"),
            ("json", "{", "/registry.json:1:1: EOF"),
        ] {
            let error = load_text(extension, text).unwrap_err();
            assert!(error.contains(expected), "expected {expected:?} in:\n{error}");
            assert!(error.contains(" | "), "the line is shown:\n{error}");
        }
    }

    /// Behaviour 39: JSON lets a name stand twice, we do not.
    #[test]
    fn duplicate_image_in_json() {
        let entry = r#"{"kernel_url": "http://h/k", "rootfs_url": "http://h/r"}"#;
        let text = format!("{{\"images\": {{\n\"x\": {entry},\n\"x\": {entry}}}}}");
        let error = load_text("json", &text).unwrap_err();
        assert!(error.contains("json:3:") && error.contains("image 'x' is there twice"), "{error}");
    }

    #[test]
    fn credentials_are_not_shown() {
        let error =
            load_text("toml", "[images.x]\nkernel_url = \"ftp://me:hunter2@h/x?sig=abc\"\n")
                .unwrap_err();
        assert!(!error.contains("hunter2") && !error.contains("abc"), "{error}");
        assert!(error.contains("ftp://***@h/x?***"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", json: bool) {
            let parsed = if json { parse_json(&text) } else { parse_toml(&text) };
            if let Err((at, message)) = parsed {
                let _ = misplaced(Path::new("x"), &text, at, &message).to_string();
            }
        }

        #[test]
        fn no_registry_like_text_panics(text in "(\\[images\\.[a-c\"./-]{1,4}\\]\n|(kernel|rootfs|initrd)_(url|sha256|filename) ?= ?\"[a-z:/.0-9@?]{0,12}\"\n|\\PC{0,6}\n){0,12}") {
            if let Err((at, message)) = parse_toml(&text) {
                let _ = misplaced(Path::new("x"), &text, at, &message).to_string();
            }
        }
    }
}
