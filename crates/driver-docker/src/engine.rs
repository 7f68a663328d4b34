//! The engine behind its socket: found, asked what it is, and never waited for without a limit.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::process::geteuid;
use tokio::time::timeout;

/// Of an engine that is only asked who it is; on a busy machine Podman has been seen to take five seconds for that.
const GREETING: Duration = Duration::from_secs(15);
/// Of one answer. Copying an image or committing what a sandbox wrote takes the longest.
const PATIENCE_SECONDS: u64 = 600;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No socket at any of the usual places.
    #[error(
        "no container engine: none of {tried} is a socket; DOCKER_HOST=unix://PATH names another"
    )]
    Missing {
        /// Where it was looked for.
        tried: String,
    },
    /// Not one of this machine's.
    #[error("DOCKER_HOST is {0:?}: only an engine on this machine can be used, unix://PATH")]
    Elsewhere(String),
    /// It does not answer as it should.
    #[error("the container engine at {socket} cannot be used: {source}")]
    Silent {
        /// Where it is.
        socket: PathBuf,
        /// What it said.
        source: bollard::errors::Error,
    },
}

/// An engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) api: Docker,
    name: String,
    storage: String,
    rootless: bool,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, or Docker's, or Podman's.
    pub async fn find() -> Result<Self, EngineError> {
        if let Ok(host) = env::var("DOCKER_HOST") {
            let socket = host.strip_prefix("unix://").map(PathBuf::from);
            return Self::at(&socket.ok_or(EngineError::Elsewhere(host))?).await;
        }
        let places = usual_places();
        match places.iter().find(|place| place.exists()) {
            Some(socket) => Self::at(socket).await,
            None => Err(EngineError::Missing {
                tried: list(&places),
            }),
        }
    }

    /// The engine behind this socket.
    pub async fn at(socket: &Path) -> Result<Self, EngineError> {
        let greeted = timeout(GREETING, Self::greet(socket)).await;
        greeted.unwrap_or_else(|_| {
            Err(EngineError::Silent {
                socket: socket.to_owned(),
                source: bollard::errors::Error::RequestTimeoutError,
            })
        })
    }

    async fn greet(socket: &Path) -> Result<Self, EngineError> {
        let silent = |source| EngineError::Silent {
            socket: socket.to_owned(),
            source,
        };
        let path = socket.to_string_lossy();
        let api = Docker::connect_with_unix(&path, PATIENCE_SECONDS, API_DEFAULT_VERSION);
        let api = api.map_err(silent)?.negotiate_version().await;
        let api = api.map_err(silent)?;
        let version = api.version().await.map_err(silent)?;
        let info = api.info().await.map_err(silent)?;
        let parts = version.components.unwrap_or_default();
        let name = parts.first().map_or("engine", |part| part.name.as_str());
        let options = info.security_options.unwrap_or_default();
        Ok(Self {
            name: format!("{name} {}", version.version.unwrap_or_default()),
            storage: info.driver.unwrap_or_default(),
            rootless: options.iter().any(|option| option.contains("rootless")),
            api,
        })
    }

    /// What it calls itself, with its version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where containers write: overlay, vfs …
    pub(crate) fn storage(&self) -> &str {
        &self.storage
    }

    /// It runs as an ordinary user.
    pub(crate) fn rootless(&self) -> bool {
        self.rootless
    }
}

fn usual_places() -> Vec<PathBuf> {
    let own = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = own.iter().flat_map(|folder| {
        [
            folder.join("docker.sock"),
            folder.join("podman/podman.sock"),
        ]
    });
    let machine = ["/var/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from);
    if geteuid().is_root() {
        return machine.into();
    }
    own.chain(machine).collect()
}

fn list(places: &[PathBuf]) -> String {
    let places: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    places.join(", ")
}
