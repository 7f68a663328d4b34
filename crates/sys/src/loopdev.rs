//! Loop devices: a file as a block device that goes away with its last user.
#![expect(unsafe_code, reason = "ioctl has no safe form")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Others may take the free number between asking and using it; bounded, so that a broken machine is not asked for ever.
const ATTACH_TRIES: usize = 64;
const CONTROL: &str = "/dev/loop-control";

/// A loop device held open; while nothing else uses it, dropping this detaches the file.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    file: File,
}

#[repr(C)]
#[derive(Default)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [[u64; 8]; 2],
    key: [u64; 4],
    init: [u64; 2],
}

#[repr(C)]
#[derive(Default)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

nix::ioctl_read_bad!(loop_get_status64, 0x4C05, LoopInfo);
nix::ioctl_none_bad!(loop_set_capacity, 0x4C07);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, LoopConfig);
nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);

/// True where this process may make loop devices.
pub fn available() -> bool {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL)
        .is_ok()
}

impl LoopDevice {
    /// The device that already shows `backing`, else a new one. Two callers at once must hold a lock of their own.
    pub fn attach(backing: &File) -> io::Result<Self> {
        match Self::find(backing)? {
            Some(device) => Ok(device),
            None => Self::attach_new(backing),
        }
    }

    /// The device that shows `backing`, told by device and inode, since names differ between mount namespaces.
    pub fn find(backing: &File) -> io::Result<Option<Self>> {
        let wanted = backing.metadata()?;
        for entry in fs::read_dir("/sys/block")? {
            let entry = entry?;
            if !entry.path().join("loop/backing_file").exists() {
                continue;
            }
            let Ok(device) = Self::open(Path::new("/dev").join(entry.file_name())) else {
                continue;
            };
            let shows = device.status().ok().filter(|info| info.offset == 0);
            if shows.is_some_and(|i| (i.device, i.inode) == (wanted.dev(), wanted.ino())) {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// Where the device node is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes over a new length of the file behind the device.
    pub fn refresh_size(&self) -> io::Result<()> {
        // SAFETY: the request takes no argument.
        unsafe { loop_set_capacity(self.file.as_raw_fd()) }?;
        Ok(())
    }

    fn attach_new(backing: &File) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
        let mut last = io::Error::from_raw_os_error(libc::EBUSY);
        for _ in 0..ATTACH_TRIES {
            // SAFETY: the request takes no argument.
            let number = unsafe { loop_ctl_get_free(control.as_raw_fd()) }?;
            let device = Self::open(PathBuf::from(format!("/dev/loop{number}")))?;
            match device.configure(backing) {
                Ok(()) => return Ok(device),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// Direct I/O keeps the pages of the file out of memory a second time and makes a flush cost only what is its own.
    fn configure(&self, backing: &File) -> io::Result<()> {
        self.configure_with(backing, LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO)
            .or_else(|e| match e.raw_os_error() {
                Some(libc::EINVAL) => self.configure_with(backing, LO_FLAGS_AUTOCLEAR),
                _ => Err(e),
            })
    }

    fn configure_with(&self, backing: &File, flags: u32) -> io::Result<()> {
        let fd = backing.as_raw_fd();
        let config = LoopConfig {
            fd: u32::try_from(fd).map_err(io::Error::other)?,
            info: LoopInfo {
                flags,
                ..LoopInfo::default()
            },
            ..LoopConfig::default()
        };
        // SAFETY: `config` lives through the call and has the layout the kernel states; the kernel takes its own reference to `backing`.
        unsafe { loop_configure(self.file.as_raw_fd(), &raw const config) }?;
        Ok(())
    }

    fn status(&self) -> io::Result<LoopInfo> {
        let mut info = LoopInfo::default();
        // SAFETY: `info` lives through the call and has the layout the kernel states.
        unsafe { loop_get_status64(self.file.as_raw_fd(), &raw mut info) }?;
        Ok(info)
    }
}
