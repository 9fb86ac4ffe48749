//! [`Failure`]: an error on its way to the user, as an exit code, a text and a JSON object.

use std::error::Error;

use serde::Serialize;
use smolvm::{
    ErrorKind, ImageError, RegistryError, SessionError, SnapshotError, VmError, VmErrorKind,
};

use crate::exit::Exit;

/// Why a command, or its part for one image, failed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    /// The class, which scripts may rely on.
    pub(crate) kind: &'static str,
    /// The whole text, causes included, which they may not.
    pub(crate) message: String,
    /// The image that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(skip)]
    pub(crate) exit: Exit,
}

impl Failure {
    /// A command line that cannot be obeyed.
    pub(crate) fn usage(message: String) -> Self {
        Self { kind: "usage", message, image: None, exit: Exit::Usage }
    }

    /// Standard output cannot be written to.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        let message = format!("cannot write to standard output: {error}");
        Self { kind: "output", message, image: None, exit: Exit::Failed }
    }

    /// The handlers of Ctrl-C and SIGTERM cannot be set.
    pub(crate) fn signals(error: &std::io::Error) -> Self {
        let message = format!("cannot handle signals: {error}");
        Self { kind: "failed", message, image: None, exit: Exit::Failed }
    }

    /// This host lacks what nothing goes without.
    pub(crate) fn host(missing: &[&str]) -> Self {
        let message = format!("this host lacks: {}", missing.join(", "));
        Self { kind: "host", message, image: None, exit: Exit::Failed }
    }

    /// The terminal cannot be given to a guest.
    pub(crate) fn terminal(error: &std::io::Error) -> Self {
        let message = format!("cannot pass the terminal on: {error}. Leave -t out");
        Self { kind: "failed", message, image: None, exit: Exit::Failed }
    }

    /// The same failure as one of `run` or `exec`, whose exit code must not be taken for that of
    /// the command in the guest.
    pub(crate) fn of_run(self) -> Self {
        let exit = match self.exit {
            // Usage: as for what clap finds wrong by itself.
            Exit::Usage
            | Exit::NotFound
            | Exit::NotExecutable
            | Exit::Interrupted
            | Exit::TimedOut => self.exit,
            _ => Exit::RunFailed,
        };
        Self { exit, ..self }
    }

    /// What was asked of a cached image needs one.
    pub(crate) fn not_cached(name: &str) -> Self {
        ImageError::NotCached { image: name.to_owned() }.into_failure(name)
    }

    /// A path of something that the image does not have.
    pub(crate) fn no_initrd(name: &str) -> Self {
        let message = format!("'{name}' has no initrd. See what it has: smolvm image path {name}");
        Self { kind: "no-initrd", message, image: Some(name.to_owned()), exit: Exit::Failed }
    }

    /// Assets of an image are not what they should be.
    pub(crate) fn damaged(name: &str, assets: &[&str]) -> Self {
        let message = format!(
            "'{name}' is damaged ({}). Repair it: smolvm image pull {name}",
            assets.join(", ")
        );
        let image = Some(name.to_owned());
        Self { kind: "verification", message, image, exit: Exit::Verification }
    }

    /// Whether the user ended the command.
    pub(crate) fn is_interruption(&self) -> bool {
        self.exit == Exit::Interrupted
    }
}

/// An error that happened while one image was worked on.
pub(crate) trait IntoFailure {
    /// The failure, with the name of the image.
    fn into_failure(self, image: &str) -> Failure;
}

impl IntoFailure for ImageError {
    fn into_failure(self, image: &str) -> Failure {
        Failure { image: Some(image.to_owned()), ..Failure::from(self) }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let kind = match error.kind() {
            _ if matches!(error, ImageError::InUse { .. }) => "in-use",
            ErrorKind::Usage => "usage",
            ErrorKind::UnknownImage => "unknown-image",
            ErrorKind::Verification => "verification",
            ErrorKind::Network => "network",
            ErrorKind::Cache => "cache",
            ErrorKind::Cancelled => "interrupted",
            _ => "failed",
        };
        Self { kind, message: with_causes(&error), image: None, exit: error.kind().into() }
    }
}

impl From<VmError> for Failure {
    fn from(error: VmError) -> Self {
        let kind = match error.kind() {
            VmErrorKind::Usage => "usage",
            VmErrorKind::AlreadyExists => "vm-exists",
            VmErrorKind::NotFound => "unknown-vm",
            VmErrorKind::State => "vm-state",
            VmErrorKind::Image => "image",
            VmErrorKind::Network => "vm-network",
            VmErrorKind::Timeout => "timeout",
            VmErrorKind::Boot => "boot",
            VmErrorKind::Command => "command",
            VmErrorKind::Host => "host",
            VmErrorKind::Snapshot => "snapshot",
            VmErrorKind::Cancelled => "interrupted",
            _ => "failed",
        };
        let exit = match &error {
            VmError::Session { source: SessionError::CommandNotFound { .. }, .. } => Exit::NotFound,
            VmError::Session { source: SessionError::NotExecutable { .. }, .. } => {
                Exit::NotExecutable
            }
            VmError::Session { source: SessionError::CommandTimeout { .. }, .. } => Exit::TimedOut,
            VmError::Snapshot(SnapshotError::Damaged { .. }) => Exit::Verification,
            _ => error.kind().into(),
        };
        Self { kind, message: with_causes(&error), image: None, exit }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let message = with_causes(&error);
        Self { kind: "registry", message, image: None, exit: Exit::Failed }
    }
}

/// The message of an error followed by its causes, without those that it quotes already.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn causes_are_named_once() {
        let reset = Layer("connection reset", None);
        let broken = Layer("the connection broke", Some(Box::new(reset)));
        let fetch = Layer("cannot fetch x: the connection broke", Some(Box::new(broken)));
        assert_eq!(with_causes(&fetch), "cannot fetch x: the connection broke: connection reset");
    }
}
