//! btrfs by its ioctls: subvolumes, snapshots, quota, resize, device counters.
//!
//! The shapes follow `linux/btrfs.h` and `linux/btrfs_tree.h`. A `dir` is an open folder; a name is one component in it.
#![expect(unsafe_code, reason = "ioctl has no safe form")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// Object id of the root folder of every subvolume.
const FIRST_FREE_OBJECTID: u64 = 256;
const QUOTA_TREE_OBJECTID: u64 = 8;
const QGROUP_INFO_KEY: u32 = 242;
const QGROUP_LIMIT_MAX_RFER: u64 = 1;
const SEARCH_HEADER_BYTES: usize = 32;

/// How used space is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaMode {
    /// Each extent belongs for good to the subvolume that wrote it: snapshots and deletions cost nothing (kernel 6.7).
    Simple,
    /// Shared and exclusive bytes, by back references: exact, and slow after many snapshots.
    Classic,
}

/// How much of its device a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSize {
    /// All of it, in bytes.
    pub total: u64,
    /// What is given to chunks, and with that to data or metadata.
    pub in_chunks: u64,
}

/// Errors a device has counted since its counters were reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceErrors {
    /// Writes that failed.
    pub write: u64,
    /// Reads that failed.
    pub read: u64,
    /// Flushes that failed.
    pub flush: u64,
    /// Blocks whose checksum was wrong.
    pub corruption: u64,
    /// Blocks older or newer than they should be: a write was lost.
    pub generation: u64,
}

#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

#[repr(C)]
struct InoLookupArgs {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

#[repr(C)]
struct FsInfoArgs {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

#[repr(C)]
struct QuotaCtlArgs {
    cmd: u64,
    status: u64,
}

#[repr(C)]
struct QgroupLimitArgs {
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

#[repr(C)]
struct DevInfoArgs {
    devid: u64,
    uuid: [u8; 16],
    bytes_used: u64,
    total_bytes: u64,
    fsid: [u8; 16],
    unused: [u64; 377],
    path: [u8; 1024],
}

#[repr(C)]
struct DevStatsArgs {
    devid: u64,
    nr_items: u64,
    flags: u64,
    values: [u64; 5],
    unused: [u64; 121],
}

#[repr(C)]
struct SearchArgs {
    tree_id: u64,
    objectid: [u64; 2],
    offset: [u64; 2],
    transid: [u64; 2],
    kind: [u32; 2],
    nr_items: u32,
    unused: u32,
    unused_more: [u64; 4],
    buf: [u8; 3992],
}

const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<InoLookupArgs>() == 4096 && size_of::<SearchArgs>() == 4096);
const _: () = assert!(size_of::<DevInfoArgs>() == 4096);
const _: () = assert!(size_of::<FsInfoArgs>() == 1024 && size_of::<DevStatsArgs>() == 1032);

nix::ioctl_write_ptr!(ioc_resize, 0x94, 3, VolArgs);
nix::ioctl_write_ptr!(ioc_subvol_create, 0x94, 14, VolArgs);
nix::ioctl_write_ptr!(ioc_snap_destroy, 0x94, 15, VolArgs);
nix::ioctl_readwrite!(ioc_tree_search, 0x94, 17, SearchArgs);
nix::ioctl_readwrite!(ioc_ino_lookup, 0x94, 18, InoLookupArgs);
nix::ioctl_write_ptr!(ioc_snap_create_v2, 0x94, 23, VolArgsV2);
nix::ioctl_readwrite!(ioc_dev_info, 0x94, 30, DevInfoArgs);
nix::ioctl_read!(ioc_fs_info, 0x94, 31, FsInfoArgs);
nix::ioctl_readwrite!(ioc_quota_ctl, 0x94, 40, QuotaCtlArgs);
nix::ioctl_read!(ioc_qgroup_limit, 0x94, 43, QgroupLimitArgs);
nix::ioctl_readwrite!(ioc_get_dev_stats, 0x94, 52, DevStatsArgs);

/// Makes an empty subvolume.
pub fn create_subvolume(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let args = vol_args(name)?;
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_subvol_create(dir.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// Makes a writable snapshot of the subvolume whose root is `source`.
pub fn snapshot(source: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let args = VolArgsV2 {
        fd: i64::from(source.as_raw_fd()),
        transid: 0,
        flags: 0,
        unused: [0; 4],
        name: name_bytes(name)?,
    };
    // SAFETY: `args` lives through the call, has the stated layout, and `source` stays open.
    unsafe { ioc_snap_create_v2(dir.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// Deletes a subvolume with all that is in it; its blocks are given back in the background.
pub fn delete_subvolume(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let args = vol_args(name)?;
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_snap_destroy(dir.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// The id of the subvolume that holds `file`.
pub fn subvolume_id(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut args = InoLookupArgs {
        treeid: 0,
        objectid: FIRST_FREE_OBJECTID,
        name: [0; 4080],
    };
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_ino_lookup(file.as_raw_fd(), &raw mut args) }?;
    Ok(args.treeid)
}

/// The id of the file system, as `/sys/fs/btrfs/` spells it.
pub fn fsid(file: BorrowedFd<'_>) -> io::Result<String> {
    let mut args = FsInfoArgs {
        max_id: 0,
        num_devices: 0,
        fsid: [0; 16],
        rest: [0; 992],
    };
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_fs_info(file.as_raw_fd(), &raw mut args) }?;
    let hex = format!("{:032x}", u128::from_be_bytes(args.fsid));
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(parts.join("-"))
}

/// Turns quotas on for the whole file system.
pub fn enable_quota(file: BorrowedFd<'_>, mode: QuotaMode) -> io::Result<()> {
    let cmd = match mode {
        QuotaMode::Classic => 1,
        QuotaMode::Simple => 4,
    };
    let mut args = QuotaCtlArgs { cmd, status: 0 };
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_quota_ctl(file.as_raw_fd(), &raw mut args) }?;
    Ok(())
}

/// Limits the bytes that subvolume `id` may refer to (classic) or own (simple).
pub fn limit_subvolume(file: BorrowedFd<'_>, id: u64, bytes: u64) -> io::Result<()> {
    let mut args = QgroupLimitArgs {
        qgroupid: id,
        flags: QGROUP_LIMIT_MAX_RFER,
        max_rfer: bytes,
        max_excl: 0,
        rsv_rfer: 0,
        rsv_excl: 0,
    };
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_qgroup_limit(file.as_raw_fd(), &raw mut args) }?;
    Ok(())
}

/// The bytes counted for subvolume `id` at the last commit; `None` where quotas do not know it.
pub fn subvolume_bytes(file: BorrowedFd<'_>, id: u64) -> io::Result<Option<u64>> {
    let mut args = SearchArgs {
        tree_id: QUOTA_TREE_OBJECTID,
        objectid: [0, 0],
        offset: [id, id],
        transid: [0, u64::MAX],
        kind: [QGROUP_INFO_KEY, QGROUP_INFO_KEY],
        nr_items: 1,
        unused: 0,
        unused_more: [0; 4],
        buf: [0; 3992],
    };
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_tree_search(file.as_raw_fd(), &raw mut args) }?;
    if args.nr_items == 0 {
        return Ok(None);
    }
    // The item: generation, then the bytes referred to, each a little-endian u64.
    let at = SEARCH_HEADER_BYTES + 8;
    let mut word = [0; 8];
    word.copy_from_slice(&args.buf[at..at + 8]);
    Ok(Some(u64::from_le_bytes(word)))
}

/// Makes the file system on its only device this large. A smaller one moves what lies beyond its new end, which takes time.
pub fn resize(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let args = vol_args(OsStr::new(&format!("1:{bytes}")))?;
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_resize(file.as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// How large the file system on its only device is.
pub fn device_size(file: BorrowedFd<'_>) -> io::Result<DeviceSize> {
    let mut args = DevInfoArgs {
        devid: 1,
        uuid: [0; 16],
        bytes_used: 0,
        total_bytes: 0,
        fsid: [0; 16],
        unused: [0; 377],
        path: [0; 1024],
    };
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_dev_info(file.as_raw_fd(), &raw mut args) }?;
    Ok(DeviceSize {
        total: args.total_bytes,
        in_chunks: args.bytes_used,
    })
}

/// The error counters of the only device.
pub fn device_errors(file: BorrowedFd<'_>) -> io::Result<DeviceErrors> {
    let mut args = DevStatsArgs {
        devid: 1,
        nr_items: 5,
        flags: 0,
        values: [0; 5],
        unused: [0; 121],
    };
    // SAFETY: `args` lives through the call and has the layout the request number states.
    unsafe { ioc_get_dev_stats(file.as_raw_fd(), &raw mut args) }?;
    let [write, read, flush, corruption, generation] = args.values;
    Ok(DeviceErrors {
        write,
        read,
        flush,
        corruption,
        generation,
    })
}

fn vol_args(name: &OsStr) -> io::Result<VolArgs> {
    let name = name_bytes(name)?;
    Ok(VolArgs { fd: 0, name })
}

/// `name` with zeros behind it; at least one, or the kernel would read on.
fn name_bytes<const N: usize>(name: &OsStr) -> io::Result<[u8; N]> {
    let name = name.as_bytes();
    if name.len() >= N || name.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut out = [0; N];
    out[..name.len()].copy_from_slice(name);
    Ok(out)
}
