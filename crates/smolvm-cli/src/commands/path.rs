//! `smolvm image path`: where the files of a cached image lie.

use std::path::Path;

use serde::Serialize;
use smolvm::{AssetKind, LocalImage};

use crate::cli::{AssetName, PathArgs};
use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::image_object::path_text;
use crate::session::Session;

#[derive(Serialize)]
struct Located<'a> {
    name: &'a str,
    paths: Paths,
    boot_args: Option<&'a str>,
}

/// The paths by their assets; those that were not asked for are left out.
#[derive(Default, Serialize)]
struct Paths {
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<String>,
}

pub(super) fn run(session: &Session<'_>, args: &PathArgs) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let image = manager.locate(&args.name).map_err(|error| error.into_failure(&args.name))?;
    let mut paths = Paths::default();
    let mut found = false;
    for (kind, path) in files(&image) {
        if args.asset.is_some_and(|asset| asset.kind() != kind) {
            continue;
        }
        found = true;
        let label = match args.asset {
            Some(_) => String::new(),
            None => format!("{kind}="),
        };
        session.output.path(&label, path);
        paths.set(kind, path);
    }
    if !found {
        return Err(Failure::no_initrd(&args.name));
    }
    let boot_args = image.boot_args.as_deref();
    session.output.json(&Located { name: &args.name, paths, boot_args }, None);
    Ok(Exit::Done)
}

fn files(image: &LocalImage) -> impl Iterator<Item = (AssetKind, &Path)> {
    let initrd = image.initrd_path.as_deref().map(|path| (AssetKind::Initrd, path));
    std::iter::once((AssetKind::Kernel, image.kernel_path.as_path()))
        .chain(initrd)
        .chain(std::iter::once((AssetKind::Rootfs, image.rootfs_path.as_path())))
}

impl AssetName {
    fn kind(self) -> AssetKind {
        match self {
            Self::Kernel => AssetKind::Kernel,
            Self::Initrd => AssetKind::Initrd,
            Self::Rootfs => AssetKind::Rootfs,
        }
    }
}

impl Paths {
    fn set(&mut self, kind: AssetKind, path: &Path) {
        let place = match kind {
            AssetKind::Kernel => &mut self.kernel,
            AssetKind::Initrd => &mut self.initrd,
            AssetKind::Rootfs => &mut self.rootfs,
        };
        *place = Some(path_text(path));
    }
}
