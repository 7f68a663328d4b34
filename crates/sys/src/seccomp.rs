//! System call filters: their few instructions, and loading them.
#![expect(unsafe_code, reason = "seccomp(2) has no safe interface")]

use std::io;

/// One instruction of classic BPF, as the kernel declares it.
pub type Instruction = libc::sock_filter;

/// The `AUDIT_ARCH_*` of `linux/audit.h` for this architecture.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURE: u32 = 0xc000_003e;
/// The `AUDIT_ARCH_*` of `linux/audit.h` for this architecture.
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURE: u32 = 0xc000_00b7;

/// Where `struct seccomp_data` has the number of the call.
pub const NUMBER: u32 = 0;
/// Where it has the architecture.
pub const ARCH: u32 = 4;

/// Where it has the low half of an argument: the whole of it for what the kernel takes as 32 bits.
pub const fn argument(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}

const fn instruction(code: u32, yes: u8, no: u8, value: u32) -> Instruction {
    Instruction {
        code: code as u16,
        jt: yes,
        jf: no,
        k: value,
    }
}

/// Loads the word at this offset of `struct seccomp_data`.
pub const fn load_word(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Keeps these bits of the word and clears the others.
pub const fn keep_bits(bits: u32) -> Instruction {
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, bits)
}

/// Skips `yes` instructions if the word equals the value, else `no`.
pub const fn if_equal(value: u32, yes: u8, no: u8) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
}

/// The same if the word is at least the value.
pub const fn if_at_least(value: u32, yes: u8, no: u8) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, yes, no, value)
}

/// The same if the word has any of these bits.
pub const fn if_any_bit(bits: u32, yes: u8, no: u8) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, yes, no, bits)
}

/// Skips this many instructions.
pub const fn skip(count: u32) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, count)
}

/// Ends with a `SECCOMP_RET_*`.
pub const fn answer(action: u32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

/// Puts a filter on this process and all it will ever start.
///
/// Needs `no_new_privs`, or CAP_SYS_ADMIN in the user namespace.
pub fn load(program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: there are `len` instructions, which the kernel only reads.
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
