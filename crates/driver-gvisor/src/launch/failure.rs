//! Which step of a launch failed, and why.

use std::io;

use rustix::io::Errno;

/// Which step of a launch failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
pub(super) struct Failure {
    step: String,
    source: io::Error,
}

impl Failure {
    /// Is it that the sandbox's files have a link or a file where a folder has to be?
    pub(super) fn is_no_folder(&self) -> bool {
        matches!(
            self.source.raw_os_error().map(Errno::from_raw_os_error),
            Some(Errno::NOTDIR | Errno::LOOP)
        )
    }

    /// Wraps the error of a step, named as what one cannot do.
    pub(super) fn at<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self {
            step: step.into(),
            source: source.into(),
        }
    }
}
