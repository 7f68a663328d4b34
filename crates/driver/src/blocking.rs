//! Work that blocks.

use std::io;

use crate::DriverError;

/// Runs what blocks where it may.
pub async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, DriverError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(DriverError::step(step))?
        .map_err(DriverError::step(step))
}
