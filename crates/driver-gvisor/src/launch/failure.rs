//! Which step of a launch failed, and why.

use std::io;

/// Which step of a launch failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
pub(super) struct Failure {
    step: String,
    source: io::Error,
}

impl Failure {
    /// Wraps the error of a step, named as what one cannot do.
    pub(super) fn at<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self {
            step: step.into(),
            source: source.into(),
        }
    }
}
