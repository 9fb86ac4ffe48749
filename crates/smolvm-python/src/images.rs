//! The image manager, and definitions of images as the models of the package have them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use smolvm::{
    Asset, AssetKind, AssetUrl, BUILTIN_IMAGES, Event, FetchOptions, ImageManagerBuilder,
    ImageSource, LocalImage, Registry, VerifyPolicy,
};

use crate::call::{self, Cancel, Desk};
use crate::errors;
use crate::here::Here;

/// The fields of an `ImageSource` of the package.
#[derive(FromPyObject, IntoPyObject)]
pub(crate) struct SourceFields {
    name: String,
    kernel_url: String,
    kernel_sha256: Option<String>,
    kernel_filename: String,
    rootfs_url: String,
    rootfs_sha256: Option<String>,
    rootfs_filename: String,
    initrd_url: Option<String>,
    initrd_sha256: Option<String>,
    initrd_filename: String,
    boot_args: Option<String>,
}

/// The fields of a `LocalImage` of the package.
#[derive(IntoPyObject)]
pub(crate) struct LocalFields {
    name: String,
    kernel_path: PathBuf,
    rootfs_path: PathBuf,
    initrd_path: Option<PathBuf>,
}

impl SourceFields {
    fn of(source: &ImageSource) -> Self {
        let (kernel, initrd, rootfs) = (source.kernel(), source.initrd(), source.rootfs());
        let digest = |asset: &Asset| asset.digest.map(|digest| digest.to_string());
        let url = |asset: &Asset| asset.url.expose_secrets().to_owned();
        let default_name = || AssetKind::Initrd.default_file_name().to_owned();
        Self {
            name: source.name().to_string(),
            kernel_url: url(kernel),
            kernel_sha256: digest(kernel),
            kernel_filename: kernel.file_name.to_string(),
            rootfs_url: url(rootfs),
            rootfs_sha256: digest(rootfs),
            rootfs_filename: rootfs.file_name.to_string(),
            initrd_url: initrd.map(url),
            initrd_sha256: initrd.and_then(digest),
            initrd_filename: initrd.map_or_else(default_name, |it| it.file_name.to_string()),
            boot_args: source.boot_args().map(str::to_owned),
        }
    }

    fn build(&self) -> Result<ImageSource, smolvm::SourceError> {
        let mut builder = ImageSource::builder(&self.name)
            .kernel(&self.kernel_url, self.kernel_sha256.as_deref())
            .file_name(AssetKind::Kernel, &self.kernel_filename)
            .rootfs(&self.rootfs_url, self.rootfs_sha256.as_deref())
            .file_name(AssetKind::Rootfs, &self.rootfs_filename);
        if let Some(url) = &self.initrd_url {
            builder = builder
                .initrd(url, self.initrd_sha256.as_deref())
                .file_name(AssetKind::Initrd, &self.initrd_filename);
        } else if self.initrd_sha256.is_some() {
            return Err(smolvm::SourceError::NoInitrd("initrd_sha256"));
        }
        if let Some(boot_args) = &self.boot_args {
            builder = builder.boot_args(boot_args);
        }
        builder.build()
    }
}

impl From<LocalImage> for LocalFields {
    fn from(image: LocalImage) -> Self {
        Self {
            name: image.name.to_string(),
            kernel_path: image.kernel_path,
            rootfs_path: image.rootfs_path,
            initrd_path: image.initrd_path,
        }
    }
}

/// Raises `ValueError` where an image cannot be defined so.
#[pyfunction]
pub(crate) fn check_source(source: SourceFields) -> PyResult<()> {
    let built = source.build();
    built.map(drop).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// A URL without its secrets; a mask where it is none.
#[pyfunction]
pub(crate) fn redacted_url(url: &str) -> String {
    url.parse::<AssetUrl>().map_or_else(|_| "***".to_owned(), |url| url.to_string())
}

/// The fields of each built-in image.
#[pyfunction]
pub(crate) fn builtin_images() -> Vec<SourceFields> {
    BUILTIN_IMAGES.iter().map(SourceFields::of).collect()
}

/// The fields of each image of a registry file.
#[pyfunction]
pub(crate) fn load_registry(py: Python<'_>, path: PathBuf) -> PyResult<Vec<SourceFields>> {
    let loaded = py.detach(|| Registry::load(&path));
    let registry = loaded.map_err(|error| errors::registry(py, &error))?;
    Ok(registry.iter().map(SourceFields::of).collect())
}

/// The image manager of one cache and one registry.
#[pyclass(frozen, module = "smolvm._smolvm")]
#[derive(Debug)]
pub(crate) struct ImageManager {
    settings: ImageManagerBuilder,
    /// Never locked while Python runs, so it is free in a forked child.
    manager: Mutex<Here<Arc<smolvm::ImageManager>>>,
}

#[pymethods]
impl ImageManager {
    #[new]
    #[pyo3(signature = (cache_dir, registry, verify, offline, sync, fs_verity))]
    fn new(
        py: Python<'_>,
        cache_dir: Option<PathBuf>,
        registry: Vec<(String, SourceFields)>,
        verify: &str,
        offline: bool,
        sync: bool,
        fs_verity: bool,
    ) -> PyResult<Self> {
        let verify = match verify {
            "always" => VerifyPolicy::Always,
            "changed" => VerifyPolicy::Changed,
            _ => {
                let message =
                    format!("verify cannot be {verify:?}: it is \"always\" or \"changed\"");
                return Err(errors::validation(py, &message));
            }
        };
        let mut known = Registry::new();
        for (key, source) in registry {
            if key != source.name {
                let message = format!(
                    "the registry has the image {:?} under the key {key:?}: they must be the same",
                    source.name
                );
                return Err(errors::validation(py, &message));
            }
            let source = source.build();
            known.insert(source.map_err(|error| errors::validation(py, &error.to_string()))?);
        }
        let mut settings = smolvm::ImageManager::builder().registry(known);
        if let Some(cache_dir) = cache_dir {
            settings = settings.cache_dir(cache_dir);
        }
        // Python warns of every fork while there is another thread, so that none is left behind.
        let settings = settings.sync(sync).sync_later(false).fs_verity(fs_verity);
        let settings = settings.verify(verify).offline(offline);
        let manager = settings.clone().build().map_err(|error| errors::image(py, &error))?;
        Ok(Self { settings, manager: Mutex::new(Here::new(Arc::new(manager))) })
    }

    #[getter]
    fn cache_dir(&self, py: Python<'_>) -> PyResult<PathBuf> {
        Ok(self.manager(py)?.cache_dir().to_owned())
    }

    fn list_available(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.manager(py)?.list_available())
    }

    fn is_cached(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let manager = self.manager(py)?;
        Ok(py.detach(|| manager.is_cached(name)))
    }

    #[pyo3(signature = (name, on_progress=None, cancel=None))]
    fn ensure_image(
        &self,
        py: Python<'_>,
        name: String,
        on_progress: Option<Py<PyAny>>,
        cancel: Option<&Cancel>,
    ) -> PyResult<LocalFields> {
        let manager = self.manager(py)?;
        let cancel = call::token(cancel);
        let options = FetchOptions::new().cancel(&cancel);
        let result = match on_progress {
            None => call::run(py, &cancel, move || manager.ensure_image_with(&name, &options)),
            Some(on_progress) => call::run_telling(
                py,
                &cancel,
                |progress: Progress, py| progress.tell(py, &on_progress),
                move |desk| {
                    let options = options.on_event(reporter(desk));
                    manager.ensure_image_with(&name, &options)
                },
            ),
        };
        result?.map(LocalFields::from).map_err(|error| errors::image(py, &error))
    }
}

impl ImageManager {
    /// The manager, made anew in a forked child.
    fn manager(&self, py: Python<'_>) -> PyResult<Arc<smolvm::ImageManager>> {
        let mut manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manager) = manager.get() {
            return Ok(Arc::clone(manager));
        }
        let made = self.settings.clone().build().map_err(|error| errors::image(py, &error))?;
        let made = Arc::new(made);
        *manager = Here::new(Arc::clone(&made));
        Ok(made)
    }
}

/// How far each asset is: what was not told yet.
#[derive(Debug, Default)]
struct Progress {
    kernel: Option<Step>,
    initrd: Option<Step>,
    rootfs: Option<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    done: u64,
    total: Option<u64>,
}

impl Progress {
    fn of(&mut self, kind: AssetKind) -> &mut Option<Step> {
        match kind {
            AssetKind::Kernel => &mut self.kernel,
            AssetKind::Initrd => &mut self.initrd,
            AssetKind::Rootfs => &mut self.rootfs,
        }
    }

    /// Calls `on_progress(label, done, total)`.
    fn tell(mut self, py: Python<'_>, on_progress: &Py<PyAny>) -> PyResult<()> {
        for kind in [AssetKind::Kernel, AssetKind::Initrd, AssetKind::Rootfs] {
            if let Some(step) = self.of(kind).take() {
                on_progress.call1(py, (kind.label(), step.done, step.total))?;
            }
        }
        Ok(())
    }
}

/// Notes the latest step of each asset; the calling thread tells of it when it comes to that.
fn reporter<T: Send + 'static>(
    desk: Desk<T, Progress>,
) -> impl Fn(AssetKind, &Event) + Send + Sync + 'static {
    move |kind, event| {
        let step = match *event {
            Event::Progress { done, total } => Step { done, total },
            Event::Cached { size } | Event::Shared { size, .. } | Event::Fetched { size, .. } => {
                Step { done: size, total: Some(size) }
            }
            _ => return,
        };
        desk.post(|progress| *progress.of(kind) = Some(step));
    }
}
