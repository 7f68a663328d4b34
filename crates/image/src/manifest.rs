//! The documents of an image, as registries, layouts and `docker save` write them: only what we use.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{ImageError, Result};
use crate::image::Config;

/// No manifest, index or config is larger.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A manifest of one image, or an index that leads to several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Document {
    Index { manifests: Vec<Descriptor> },
    Image(Manifest),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a part is and where it is found.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// One image of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// The config of an image.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Defaults>,
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Defaults {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

/// Reads a document; `what` names it in errors.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Document {
        what: what.to_owned(),
        source,
    })
}

/// The 64 digits of a `sha256:` digest; other algorithms are refused.
pub(crate) fn sha256_of(digest: &str) -> Result<&str> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
        .ok_or_else(|| {
            let shown: String = digest.chars().take(80).collect();
            ImageError::malformed(format!("the digest `{shown}`"), "not a SHA-256 digest")
        })
}

/// The entry of an index for this machine; an index of one image without a platform means that one.
pub(crate) fn choose<'a>(what: &str, manifests: &'a [Descriptor]) -> Result<&'a Descriptor> {
    let fits = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|p| p.os == "linux" && p.architecture == machine())
    };
    match manifests {
        [only] if only.platform.is_none() => Ok(only),
        all => all.iter().find(fits).ok_or_else(|| {
            let names = all.iter().take(32).filter_map(|entry| {
                let p = entry.platform.as_ref()?;
                Some(format!("{}/{}", p.os, p.architecture))
            });
            wrong_platform(what, names.collect::<Vec<_>>().join(", "))
        }),
    }
}

/// This machine's architecture as images call it.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn wrong_platform(what: &str, found: String) -> ImageError {
    ImageError::Platform {
        what: what.to_owned(),
        wanted: format!("linux/{}", machine()),
        found,
    }
}

impl ConfigFile {
    /// Names of the layers, lowest first: SHA-256 of each unpacked, in hexadecimal digits.
    pub(crate) fn layers(&self) -> Result<Vec<String>> {
        let ids = self.rootfs.diff_ids.iter();
        ids.map(|id| sha256_of(id).map(str::to_owned)).collect()
    }

    /// Refuses what this machine cannot run.
    pub(crate) fn check_platform(&self, what: &str) -> Result<()> {
        let os = matches!(self.os.as_str(), "" | "linux");
        let architecture = self.architecture.is_empty() || self.architecture == machine();
        if os && architecture {
            Ok(())
        } else {
            Err(wrong_platform(
                what,
                format!("{}/{}", self.os, self.architecture),
            ))
        }
    }

    /// How programs want to be started, with what images may leave out filled in.
    pub(crate) fn into_config(self) -> Config {
        let defaults = self.config.unwrap_or_default();
        let mut env: Vec<(String, String)> = defaults
            .env
            .unwrap_or_default()
            .iter()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let user = defaults.user.filter(|user| !user.is_empty());
        let workdir = defaults.working_dir.unwrap_or_default();
        Config {
            user: user.unwrap_or_else(|| "root".to_owned()),
            workdir: format!("/{}", workdir.trim_start_matches('/')),
            env,
            entrypoint: defaults.entrypoint.unwrap_or_default(),
            cmd: defaults.cmd.unwrap_or_default(),
        }
    }
}
