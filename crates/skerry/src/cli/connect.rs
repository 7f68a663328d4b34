//! Finds the server and the key: flag, then environment, then configuration file, then what `skerry up` left on this machine.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;
use skerry_client::Client;

use super::failure::Failure;
use crate::data_dir::DataDir;
use crate::{Global, env};

/// The configuration file, TOML. Every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: Option<String>,
    api_key: Option<String>,
}

/// What `skerry up` left on this machine.
#[derive(Debug, Default)]
struct Local {
    dir: Option<DataDir>,
    url: Option<String>,
    key: Option<String>,
}

/// The server that is meant.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) key: Option<String>,
    /// What it left on this machine, if it is the one that runs here.
    pub(super) data_dir: Option<DataDir>,
}

impl Server {
    pub(super) fn find(global: &Global) -> anyhow::Result<Self> {
        let config = config()?;
        let local = local(global)?;
        let url = global.url.clone().or(config.url);
        // The local key opens the local server; it is nobody else's business.
        let is_local = url
            .as_ref()
            .is_none_or(|url| Some(url) == local.url.as_ref());
        let local_key = local.key.filter(|_| is_local);
        let url = url.or(local.url).ok_or_else(|| {
            Failure::unreachable("no server runs on this machine")
                .hint("start one with `skerry up`, or name one with --url or SKERRY_URL")
        })?;
        Ok(Self {
            url,
            key: global.api_key.clone().or(config.api_key).or(local_key),
            data_dir: local.dir.filter(|_| is_local),
        })
    }

    /// The key to call it with.
    pub(super) fn key(&self) -> anyhow::Result<&str> {
        let none = || {
            Failure::key(format!("there is no key for {}", self.url))
                .hint("set SKERRY_API_KEY or give --api-key")
        };
        Ok(self.key.as_deref().ok_or_else(none)?)
    }

    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url, self.key()?)?)
    }
}

fn config() -> anyhow::Result<Config> {
    let Some(path) = config_path() else {
        return Ok(Config::default());
    };
    let text = DataDir::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed = toml::from_str(text.as_deref().unwrap_or_default());
    Ok(parsed.map_err(|error| {
        let message = format!("{}: {}", path.display(), error.message());
        Failure::usage(message).hint("it may have `url` and `api_key`, in TOML")
    })?)
}

fn config_path() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    var(env::CONFIG).or_else(|| {
        let absolute = var("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let folder = absolute.or_else(|| Some(var("HOME")?.join(".config")))?;
        Some(folder.join("skerry/config.toml"))
    })
}

fn local(global: &Global) -> anyhow::Result<Local> {
    let Ok(dir) = DataDir::choose(global.data_dir.as_deref()) else {
        return Ok(Local::default());
    };
    let read = |path: PathBuf| {
        DataDir::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(Local {
        url: read(dir.url_file())?,
        key: read(dir.key_file())?,
        dir: Some(dir),
    })
}
