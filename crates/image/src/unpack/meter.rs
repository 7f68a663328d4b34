//! Counting what an archive costs, while it is read.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::{Result, UnpackError};
use crate::digest::hex;
use crate::room::{LOOK_BYTES, Room};

/// Below this size any ratio is fine: a few small files of zeros are no attack.
const RATIO_FROM: u64 = 64 * 1024 * 1024;

/// What one image may cost. The defaults leave room for the largest images in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all layers, unpacked.
    pub bytes: u64,
    /// Files, folders, links and whiteouts of all layers.
    pub entries: u64,
    /// Bytes of all names together.
    pub names: u64,
    /// Folders in folders.
    pub depth: usize,
    /// Unpacked bytes for each compressed byte, of layers beyond 64 MiB.
    pub ratio: u64,
    /// Bytes of headers of one entry: long names, extended attributes.
    pub header: u64,
    /// Layers of one image.
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024 * 1024 * 1024,
            entries: 2_000_000,
            names: 256 * 1024 * 1024,
            depth: 256,
            ratio: 200,
            header: 1024 * 1024,
            layers: 128,
        }
    }
}

/// What the layers of one image have cost so far; shared by those that unpack at the same time.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    room: Room,
    bytes: AtomicU64,
    entries: AtomicU64,
    names: AtomicU64,
    cancelled: Arc<AtomicBool>,
}

impl Budget {
    pub(crate) fn new(limits: Limits, room: Room, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            limits,
            room,
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            names: AtomicU64::new(0),
            cancelled,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn entry(&self, name_bytes: usize) -> Result<()> {
        let limit = self.limits.entries;
        if add(&self.entries, 1) > limit {
            return Err(UnpackError::TooManyEntries { limit });
        }
        let limit = self.limits.names;
        if add(&self.names, name_bytes as u64) > limit {
            return Err(UnpackError::TooManyNames { limit });
        }
        Ok(())
    }

    /// Counts bytes of the stream, and the length of sparse files, whose holes are not in it.
    pub(super) fn read(&self, bytes: u64) -> Result<()> {
        let limit = self.limits.bytes;
        let sum = add(&self.bytes, bytes);
        if sum > limit {
            return Err(UnpackError::TooManyBytes { limit });
        }
        if (sum - bytes).div_ceil(LOOK_BYTES) != sum.div_ceil(LOOK_BYTES) {
            let more = bytes.max(LOOK_BYTES);
            self.room.ask(more).map_err(UnpackError::NoRoom)?;
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(UnpackError::Cancelled);
        }
        Ok(())
    }
}

fn add(counter: &AtomicU64, more: u64) -> u64 {
    counter
        .fetch_add(more, Ordering::Relaxed)
        .saturating_add(more)
}

/// Passes bytes on, and tells how many.
pub(crate) struct Tap<R, F> {
    inner: R,
    tell: F,
}

impl<R: Read, F: FnMut(usize)> Tap<R, F> {
    pub(crate) fn new(inner: R, tell: F) -> Self {
        Self { inner, tell }
    }
}

impl<R: Read, F: FnMut(usize)> Read for Tap<R, F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        (self.tell)(n);
        Ok(n)
    }
}

/// Reads gzip, zstd or neither, as the first bytes tell; refuses what inflates beyond the ratio.
pub(crate) fn decompress(
    compressed: impl Read + Send + 'static,
    limits: &Limits,
) -> io::Result<Box<dyn Read + Send>> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    let counted = Tap::new(compressed, move |n| {
        add(&counter, n as u64);
    });
    let mut input = BufReader::with_capacity(128 * 1024, counted);
    let plain: Box<dyn Read + Send> = match input.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(input)?),
        _ => return Ok(Box::new(input)),
    };
    Ok(Box::new(Inflated {
        plain,
        compressed: count,
        read: 0,
        ratio: limits.ratio,
    }))
}

struct Inflated<R> {
    plain: R,
    compressed: Arc<AtomicU64>,
    read: u64,
    ratio: u64,
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.plain.read(buf)?;
        self.read += n as u64;
        let fair = self
            .compressed
            .load(Ordering::Relaxed)
            .saturating_mul(self.ratio);
        if self.read > RATIO_FROM.max(fair) {
            return Err(UnpackError::Ratio { limit: self.ratio }.into());
        }
        Ok(n)
    }
}

/// Stands between the stream and the archive reader; readable through a shared reference.
pub(super) struct Meter<'a, R> {
    inner: RefCell<R>,
    hash: RefCell<Sha256>,
    /// What may still be read before the next entry's data begins.
    header_left: Cell<Option<u64>>,
    budget: &'a Budget,
}

impl<'a, R: Read> Meter<'a, R> {
    pub(super) fn new(inner: R, budget: &'a Budget) -> Self {
        Self {
            inner: RefCell::new(inner),
            hash: RefCell::default(),
            header_left: Cell::new(None),
            budget,
        }
    }

    /// Until [`Self::expect_data`] only the headers of one entry may be read.
    pub(super) fn expect_header(&self) {
        self.header_left.set(Some(self.budget.limits.header));
    }

    pub(super) fn expect_data(&self) {
        self.header_left.set(None);
    }

    /// Reads what follows the end mark, which counts for the hash too.
    pub(super) fn finish(&self) -> Result<String> {
        self.expect_data();
        io::copy(&mut &*self, &mut io::sink())?;
        Ok(hex(&self.hash.take().finalize()))
    }
}

impl<R: Read> Read for &Meter<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.borrow_mut().read(buf)?;
        self.budget.read(n as u64)?;
        if let Some(left) = self.header_left.get() {
            let limit = self.budget.limits.header;
            let left = left
                .checked_sub(n as u64)
                .ok_or(UnpackError::HeaderTooLarge { limit })?;
            self.header_left.set(Some(left));
        }
        self.hash.borrow_mut().update(&buf[..n]);
        Ok(n)
    }
}
