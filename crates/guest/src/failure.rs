//! What could not be done, and why.

use std::io;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
pub(crate) struct Failure {
    step: String,
    source: io::Error,
}

impl Failure {
    /// Wraps the error of a step, named as what one cannot do.
    pub(crate) fn at<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| Self {
            step: step.into(),
            source: error.into(),
        }
    }
}
