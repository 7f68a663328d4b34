//! Logins at registries: given with the command, or kept by `docker login` and `podman login`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Deserialize;
use skerry_api::RegistryLogin;

use super::failure::Failure;
use super::output::note;
use crate::data_dir::DataDir;
use crate::env;

/// No password is longer.
const MAX_PASSWORD: u64 = 16 * 1024;
/// Under which name `docker login` keeps the registry of names without one.
const DOCKER_HUB: &str = "index.docker.io";

/// Who asks the registry; a login that `docker login` or `podman login` left in a file is found without these
#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The user at the registry
    #[arg(long, short, requires = "password_stdin")]
    username: Option<String>,
    /// Read the password, or what the registry takes for one, from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

impl LoginArgs {
    /// The login for the registry that this image names; `None` if there is none.
    pub(super) fn find(self, reference: &str) -> anyhow::Result<Option<RegistryLogin>> {
        match self.username {
            Some(username) => {
                let password = read_password()?;
                Ok(Some(RegistryLogin { username, password }))
            }
            None => kept(registry_of(reference)),
        }
    }
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock().take(MAX_PASSWORD + 2);
    stdin
        .read_to_string(&mut text)
        .context("cannot read the password from stdin")?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("there is no password on stdin").into());
    }
    Ok(password.to_owned())
}

/// What the file of logins holds of interest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kept {
    auths: BTreeMap<String, Entry>,
    /// The program that keeps the logins of one registry.
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    /// The program that keeps all others.
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
}

impl std::fmt::Debug for Entry {
    /// Secrets are not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

fn kept(registry: &str) -> anyhow::Result<Option<RegistryLogin>> {
    for path in files() {
        let text =
            DataDir::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(text) = text else { continue };
        let wrong = || Failure::failed(format!("{} is no file of logins", path.display()));
        // What the library says of it could quote a secret.
        let kept: Kept = serde_json::from_str(&text).map_err(|_| wrong())?;
        if let Some(auth) = kept.auth(registry) {
            return Ok(Some(decode(auth).ok_or_else(wrong)?));
        }
        if let Some(helper) = kept.helper(registry) {
            note(&format!(
                "the login for {registry} is with docker-credential-{helper}, which is not asked; \
                 --username and --password-stdin give it"
            ));
        }
    }
    Ok(None)
}

/// Where logins are kept, the first that counts first.
fn files() -> impl Iterator<Item = PathBuf> {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    let docker = var(env::DOCKER_CONFIG).or_else(|| Some(var("HOME")?.join(".docker")));
    let podman = var("XDG_RUNTIME_DIR");
    [
        docker.map(|folder| folder.join("config.json")),
        podman.map(|folder| folder.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
}

impl Kept {
    fn auth(&self, registry: &str) -> Option<&str> {
        let mut entries = self.auths.iter();
        let (_, entry) = entries.find(|(name, _)| host_of(name) == Some(registry))?;
        entry.auth.as_deref().filter(|auth| !auth.is_empty())
    }

    /// The program that has the login, if there is one.
    fn helper(&self, registry: &str) -> Option<&str> {
        let is_meant = |name: &String| host_of(name) == Some(registry);
        let own = self.helpers.iter().find(|(name, _)| is_meant(name));
        let of_all = || {
            self.store
                .as_ref()
                .filter(|_| self.auths.keys().any(is_meant))
        };
        own.map(|(_, helper)| helper)
            .or_else(of_all)
            .map(String::as_str)
    }
}

/// The host of an entry's name: `host`, or `https://host/v1/` in older files. One for a part of a registry only is not for us.
fn host_of(name: &str) -> Option<&str> {
    let url = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"));
    match url {
        Some(url) => url.split('/').next(),
        None => Some(name).filter(|name| !name.contains('/')),
    }
    .map(|host| {
        if host == "docker.io" {
            DOCKER_HUB
        } else {
            host
        }
    })
}

/// The registry that an image's name begins with, or the one that everybody means.
fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some(("docker.io", _)) | None => DOCKER_HUB,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) => DOCKER_HUB,
    }
}

fn decode(auth: &str) -> Option<RegistryLogin> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(RegistryLogin {
        username: username.to_owned(),
        // Docker pads what it keeps.
        password: password.trim_end_matches('\0').to_owned(),
    })
}
