//! Loading system call filters.
#![expect(unsafe_code, reason = "seccomp(2) has no safe interface")]

use std::io;

pub use seccompiler::BpfProgram;

/// Puts a filter on this process and all it will ever start. Of several, the strictest answer counts, among errors that of the last loaded.
///
/// Needs `no_new_privs`, or CAP_SYS_ADMIN in the user namespace.
pub fn load(program: &BpfProgram) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `seccompiler::sock_filter` is declared like the kernel's, there are `len` of them, and the kernel only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const fprog,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
