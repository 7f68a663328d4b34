//! Turning errors of steps into the driver's.

use std::io;

use skerry_driver::DriverError;

/// Wraps the error of a step; a full disk is told apart.
pub(crate) fn at(step: &'static str) -> impl FnOnce(io::Error) -> DriverError {
    move |error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DriverError::DiskFull(format!("{step}: {error}")),
        _ => DriverError::step(step)(error),
    }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, DriverError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(DriverError::step(step))?.map_err(at(step))
}
