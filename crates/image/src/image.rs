//! What an image is to the ones who use it: a stack of folders, binds and a config.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::ImageId;

/// Where an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The machine's own `/usr` under a clean skeleton.
    Host,
    /// Layers of a registry, an archive or a folder.
    Oci,
    /// The Debian root file system built on this machine.
    Base,
}

/// A folder of the host that the sandbox sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the sandbox; the mount point exists in the layers.
    pub target: PathBuf,
    /// Mount it read-only.
    pub read_only: bool,
}

/// How programs of the image want to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `name`, `uid`, `name:group` or `uid:gid`; never empty.
    pub user: String,
    /// An absolute path; never empty.
    pub workdir: String,
    /// Variables in the order of the image.
    pub env: Vec<(String, String)>,
    /// What always runs, if anything does.
    pub entrypoint: Vec<String>,
    /// Default arguments, or the default command where there is no entry point.
    pub cmd: Vec<String>,
}

/// An image that is on this machine, ready to be mounted.
///
/// Can be written down: whoever adopts a sandbox after a restart holds its image again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// New with each content; the same while the content stays.
    pub id: ImageId,
    /// The name it is found under.
    pub reference: String,
    /// `sha256:…` of what was obtained: manifest, archive or content key.
    pub digest: String,
    /// Unpacked, read-only folders, lowest first.
    pub layers: Vec<PathBuf>,
    /// To be mounted over the layers, in this order.
    pub binds: Vec<Bind>,
    /// Defaults for its programs.
    pub config: Config,
    /// Bytes of file content in the layers; binds do not count.
    pub size_bytes: u64,
    /// When it came to this machine.
    pub created_at: Timestamp,
    /// Where it comes from.
    pub kind: Kind,
}
