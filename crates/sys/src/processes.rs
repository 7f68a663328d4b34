//! Processes of the host, for when nothing else remembers them.

use std::fs;
use std::io;
use std::path::Path;

use crate::folder;

/// Those whose arguments are such, the first of which is what they are called. One that is gone already is none.
pub fn with_arguments(are_such: impl Fn(&[&[u8]]) -> bool) -> io::Result<Vec<u32>> {
    let mut found: Vec<u32> = folder::names(Path::new("/proc"), "")?;
    found.retain(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        are_such(&arguments)
    });
    Ok(found)
}
