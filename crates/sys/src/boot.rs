//! Which start of this machine it is.

use std::fs;

/// New with each start. Empty where the kernel does not say.
pub fn id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
