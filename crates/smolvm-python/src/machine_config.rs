//! Configurations of machines as the model of the package has them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::de::value::Error;
use serde::{Deserialize, de};
use smolvm::{Destination, Egress, VmConfig};

use crate::errors;

/// The fields of a `VMConfig` of the package.
#[derive(FromPyObject)]
pub(crate) struct ConfigFields {
    vm_id: Option<String>,
    kernel_path: PathBuf,
    rootfs_path: PathBuf,
    initrd_path: Option<PathBuf>,
    /// `None` where it was left out: the best number depends on the host.
    #[pyo3(attribute("_given_vcpu_count"))]
    vcpu_count: Option<u32>,
    mem_size_mib: u32,
    boot_args: Option<String>,
    backend: String,
    disk_mode: String,
    network: String,
    egress: String,
    allow: Vec<String>,
    env: BTreeMap<String, String>,
}

impl ConfigFields {
    /// The configuration, or what is wrong with it.
    pub(crate) fn build(self) -> Result<VmConfig, String> {
        let mut config = VmConfig::new(self.kernel_path, self.rootfs_path)
            .mem_size_mib(self.mem_size_mib)
            .backend(word("backend", &self.backend)?)
            .disk_mode(word("disk_mode", &self.disk_mode)?)
            .network(word("network", &self.network)?)
            .egress(egress(&self.egress, &self.allow)?);
        if let Some(id) = self.vm_id {
            config = config.id(&id).map_err(|error| error.to_string())?;
        }
        if let Some(path) = self.initrd_path {
            config = config.initrd(path);
        }
        if let Some(count) = self.vcpu_count {
            config = config.vcpu_count(count);
        }
        if let Some(arguments) = self.boot_args {
            config = config.boot_args(arguments);
        }
        Ok(self.env.into_iter().fold(config, |config, (name, value)| config.env(name, value)))
    }
}

/// What the guest reaches: as the options of the command are, one of two words or destinations.
fn egress(word: &str, allow: &[String]) -> Result<Egress, String> {
    match (word, allow) {
        ("all", []) => Ok(Egress::All),
        ("nothing", []) => Ok(Egress::Nothing),
        ("all", destinations) => {
            let parse = |text: &String| {
                text.parse::<Destination>().map_err(|error| format!("allow: {error}"))
            };
            destinations.iter().map(parse).collect::<Result<_, _>>().map(Egress::Allow)
        }
        ("nothing", _) => Err("egress `nothing` and `allow` exclude each other".to_owned()),
        _ => Err(format!("egress: {word:?} is neither all nor nothing")),
    }
}

/// A value that is one of a few words.
fn word<'a, T: Deserialize<'a>>(field: &str, text: &'a str) -> Result<T, String> {
    let parsed: Result<T, Error> = T::deserialize(de::value::StrDeserializer::new(text));
    parsed.map_err(|error| format!("{field}: {error}"))
}

/// Raises `ValueError` where no machine can be made so.
#[pyfunction]
pub(crate) fn check_config(config: ConfigFields) -> PyResult<()> {
    let checked =
        config.build().and_then(|config| config.check().map_err(|error| error.to_string()));
    checked.map_err(PyValueError::new_err)
}

/// The configuration for a machine that is to be made.
pub(crate) fn configuration(py: Python<'_>, fields: ConfigFields) -> PyResult<VmConfig> {
    fields.build().map_err(|message| errors::validation(py, &message))
}
