//! Getting one image: its layers one after another or at once, within one budget, until it is entered.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use skerry_types::ImageId;

use crate::digest::hex;
use crate::error::{ImageError, Result};
use crate::image::{Config, Image, Kind};
use crate::layers::tree_bytes;
use crate::progress::{Phase, Progress};
use crate::store::{Inner, Pin};
use crate::unpack::{Budget, Tap, decompress, unpack};

/// Reports come at most this often, in bytes.
const REPORT_BYTES: u64 = 1024 * 1024;

/// Tells threads that unpack to stop, when it is dropped.
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Work on one image. When it is dropped, threads that still unpack for it stop.
pub(crate) struct Job {
    inner: Arc<Inner>,
    /// The image as errors and progress name it.
    what: String,
    shared: Arc<Shared>,
    _cancel: Cancel,
    _pin: Pin,
    layers: Vec<String>,
}

/// What the threads that unpack need.
struct Shared {
    budget: Budget,
    meter: Reporter,
}

/// Sums bytes of all layers up and reports now and then.
pub(crate) struct Reporter {
    progress: Progress,
    phase: Phase,
    message: String,
    total: u64,
    done: AtomicU64,
}

impl Reporter {
    pub(crate) fn new(progress: Progress, phase: Phase, total: u64, message: String) -> Self {
        progress.report(phase, 0, total, message.clone());
        Self {
            progress,
            phase,
            message,
            total,
            done: AtomicU64::new(0),
        }
    }

    pub(crate) fn add(&self, bytes: usize) {
        let more = bytes as u64;
        let before = self.done.fetch_add(more, Ordering::Relaxed);
        let now = before + more;
        if before / REPORT_BYTES != now / REPORT_BYTES || now == self.total {
            self.progress
                .report(self.phase, now, self.total, self.message.clone());
        }
    }
}

impl Job {
    /// `layers` are the names of those that the image will have, lowest first; `bytes` is what will be read.
    pub(crate) fn new(
        inner: Arc<Inner>,
        what: &str,
        layers: Vec<String>,
        bytes: u64,
        progress: Progress,
    ) -> Result<Self> {
        check_count(what, &layers, inner.limits.layers)?;
        let layers = without_repeats(layers);
        let paths: Vec<PathBuf> = layers
            .iter()
            .map(|name| inner.folders.layer(name))
            .collect();
        let cancel = Cancel::new();
        let message = format!("unpacking {what}");
        Ok(Self {
            what: what.to_owned(),
            shared: Arc::new(Shared {
                budget: inner.budget(cancel.flag()),
                meter: Reporter::new(progress, Phase::Unpacking, bytes, message),
            }),
            _cancel: cancel,
            _pin: inner.clone().pin(paths),
            inner,
            layers,
        })
    }

    /// Makes the layer of this name from a blob that `obtain` gives, unless it is there already. Whoever gets the same `from` there waits for it,
    /// and nobody else: a slow registry is its own users' trouble.
    pub(crate) async fn layer(
        &self,
        name: &str,
        from: &str,
        obtain: impl Future<Output = Result<File>>,
    ) -> Result<()> {
        let _turn = self.inner.turns.take(&format!("{name} of {from}")).await;
        if self.inner.folders.layer(name).is_dir() {
            return Ok(());
        }
        let blob = obtain.await?;
        let (inner, shared) = (self.inner.clone(), self.shared.clone());
        let what = format!("layer {} of {}", &name[..12], self.what);
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || {
            let tree = inner.folders.work_folder()?;
            let read = {
                let shared = shared.clone();
                Tap::new(blob, move |n| shared.meter.add(n))
            };
            let tar =
                decompress(read, &inner.limits).map_err(ImageError::io("read", what.as_str()))?;
            let actual = unpack(tar, tree.path(), inner.ids, &shared.budget)
                .map_err(ImageError::unpack(what.as_str()))?;
            check_digest(&what, &name, &actual)?;
            inner.folders.keep(tree, &name)
        })
        .await?
    }

    /// All layers are there: makes the image known.
    pub(crate) async fn enter(
        self,
        reference: String,
        digest: String,
        kind: Kind,
        config: Config,
    ) -> Result<Arc<Image>> {
        let inner = self.inner.clone();
        let layers: Vec<PathBuf> = self
            .layers
            .iter()
            .map(|name| inner.folders.layer(name))
            .collect();
        let image = tokio::task::spawn_blocking(move || {
            let mut size_bytes = 0;
            for layer in &layers {
                size_bytes += tree_bytes(layer).map_err(ImageError::io("measure", layer))?;
            }
            inner.enter(Image {
                id: ImageId::new(),
                reference,
                digest,
                layers,
                binds: Vec::new(),
                config,
                size_bytes,
                created_at: Timestamp::now(),
                kind,
            })
        })
        .await??;
        let done = &self.shared.meter;
        let message = format!("{} is ready", self.what);
        done.progress
            .report(Phase::Done, done.total, done.total, message);
        Ok(image)
    }
}

fn check_count(what: &str, layers: &[String], limit: usize) -> Result<()> {
    match layers.len() {
        0 => Err(ImageError::malformed(what, "it has no layers")),
        n if n > limit => {
            let reason = format!("it has {n} layers, more than {limit}");
            Err(ImageError::malformed(what, reason))
        }
        _ => Ok(()),
    }
}

/// The kernel refuses a layer twice, and a lower copy is hidden by the upper one anyway.
fn without_repeats(layers: Vec<String>) -> Vec<String> {
    let above = layers.clone();
    layers
        .into_iter()
        .enumerate()
        .filter(|(at, name)| !above[at + 1..].contains(name))
        .map(|(_, name)| name)
        .collect()
}

/// Both in hexadecimal digits.
pub(crate) fn check_digest(what: &str, expected: &str, actual: &str) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    Err(ImageError::Digest {
        what: what.to_owned(),
        expected: format!("sha256:{expected}"),
        actual: format!("sha256:{actual}"),
    })
}

/// Reads the file to its end and back to its start.
pub(crate) fn hash_file(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut block = vec![0; 128 * 1024];
    loop {
        match file.read(&mut block)? {
            0 => break,
            n => hash.update(&block[..n]),
        }
    }
    file.rewind()?;
    Ok(hex(&hash.finalize()))
}
