//! Lives of sandboxes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use skerry_driver::{
    Bind, Driver, DriverError, Instance, NetworkMode, Privilege, Rootfs, Spec, Step,
};
use skerry_image::{Hold, Image, Kind};
use skerry_proto::node::{
    CreateSandbox, ForkSandbox, SandboxFacts, SandboxReport, SandboxStats, Sandboxes,
};
use skerry_types::limits::PROVISION_TIMEOUT_SECONDS;
use skerry_types::{Error, ErrorCode, FailureReason, Result, SandboxId, SandboxState};

use crate::actor::{Command, Shared, journal_error, not_running};
use crate::event::{BootStep, Event};
use crate::meta::Meta;
use crate::node::Node;
use crate::pool::{self, Pool};

#[async_trait]
impl Sandboxes for Node {
    async fn create(&self, request: CreateSandbox) -> Result<SandboxReport> {
        let driver = self.driver(request.driver.as_deref())?;
        let image = self.images.resolve(&request.image)?;
        let hold = self.images.hold(&image)?;
        let mut meta = meta_of(&request, &image, driver.as_ref())?;
        // A host name of its own must be there from the start.
        let ready = match request.name {
            None => self.pool.take(&kind(&meta, &driver)),
            Some(_) => None,
        };
        self.make(request.id, |node| async move {
            let started = Instant::now();
            if let Some(ready) = &ready {
                meta.spec = ready.spec.clone();
            }
            let shared = match node.begin(request.id, &meta, None) {
                Ok(shared) => shared,
                Err(error) => {
                    Pool::discard(ready).await;
                    return Err(error);
                }
            };
            let made = match ready {
                Some(ready) => Ok(ready.used(started.elapsed())),
                None => in_time(driver.create(&meta.spec)).await,
            };
            node.finish(shared, driver, meta, hold, made, started).await
        })
        .await
    }

    async fn fork(&self, request: ForkSandbox) -> Result<SandboxReport> {
        let parent = self.handle(request.parent)?;
        let state = parent.shared.history.read().state;
        if state != SandboxState::Running {
            return Err(not_running(request.parent, state));
        }
        if !parent.driver.capabilities().file_fork {
            return Err(parent.driver.capabilities().unsupported("fork").into());
        }
        let meta = self.child_meta(&request)?;
        let hold = self.images.hold(&meta.image)?;
        self.make(request.id, |node| async move {
            let at_seq = parent.shared.journal.last_seq();
            let shared = node.begin(request.id, &meta, Some(at_seq))?;
            let started = Instant::now();
            let driver = Arc::clone(&parent.driver);
            let made = in_time(driver.fork(parent.place, &meta.spec)).await;
            let report = node
                .finish(shared, driver, meta, hold, made, started)
                .await?;
            let forked = Event::SandboxForked {
                fork_sandbox_id: request.id,
            };
            parent.ask(|reply| Command::Note(forked, reply)).await?;
            Ok(report)
        })
        .await
    }

    async fn stop(&self, id: SandboxId, reason: Option<FailureReason>) -> Result<SandboxReport> {
        self.handle(id)?
            .ask(|reply| Command::Stop(reason, reply))
            .await
    }

    async fn delete(&self, id: SandboxId) -> Result<()> {
        self.until_made(id).await;
        let Ok(handle) = self.handle(id) else {
            return Ok(());
        };
        match handle.ask(Command::Delete).await {
            // Another delete was first, and its actor is gone.
            Err(error) if error.code == ErrorCode::NotFound => {}
            done => done?,
        }
        self.remove(id);
        Ok(())
    }

    async fn pause(&self, id: SandboxId) -> Result<SandboxReport> {
        self.handle(id)?.ask(Command::Pause).await
    }

    async fn resume(&self, id: SandboxId) -> Result<SandboxReport> {
        self.handle(id)?.ask(Command::Resume).await
    }

    async fn list(&self) -> Result<Vec<SandboxReport>> {
        Ok(self.handles().iter().map(|h| h.shared.report()).collect())
    }

    async fn get(&self, id: SandboxId) -> Result<SandboxReport> {
        Ok(self.shared(id).await?.report())
    }

    fn watch(&self) -> BoxStream<'static, Result<SandboxReport>> {
        self.reports.watch()
    }

    async fn stats(&self, id: SandboxId) -> Result<SandboxStats> {
        let handle = self.handle(id)?;
        let stats = handle.driver.stats(handle.place).await?;
        Ok(SandboxStats {
            cpu_us: stats.cpu_us,
            memory_bytes: stats.memory_bytes,
            memory_peak_bytes: stats.memory_peak_bytes,
            pids: stats.pids,
            disk_bytes: stats.disk_bytes,
            oom_kills: stats.oom_kills,
        })
    }

    async fn touch(&self, id: SandboxId) -> Result<()> {
        *self.handle(id)?.shared.last_active.write() = Timestamp::now();
        Ok(())
    }

    async fn warn_ttl(&self, id: SandboxId, seconds_remaining: u64) -> Result<()> {
        let warning = Event::SandboxTtlWarning { seconds_remaining };
        self.handle(id)?
            .ask(|reply| Command::Note(warning, reply))
            .await
    }
}

impl Node {
    /// Writes down that a sandbox is being made, before anything of it is on the host.
    fn begin(&self, id: SandboxId, meta: &Meta, forked_at_seq: Option<u64>) -> Result<Arc<Shared>> {
        let folder = self.layout.folder(id);
        std::fs::create_dir(&folder).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::from(DriverError::Exists(id)),
            _ => Error::internal(format!("cannot make {}: {e}", folder.display())),
        })?;
        meta.save(&self.layout.meta(id))
            .map_err(|e| Error::internal(format!("cannot write meta.json: {e}")))?;
        let shared = self.open_shared(id)?;
        self.begun(&shared);
        let created = Event::SandboxCreated {
            image: meta.image.reference.clone(),
            image_digest: meta.image.digest.clone(),
            env_names: meta.env.keys().cloned().collect(),
            forked_from: meta.forked_from,
            forked_at_seq,
        };
        note(&shared, &created)?;
        Ok(shared)
    }

    /// Takes up what was made, or writes down why it was not.
    async fn finish(
        &self,
        shared: Arc<Shared>,
        driver: Arc<dyn Driver>,
        meta: Meta,
        image: Hold,
        made: std::result::Result<Instance, DriverError>,
        started: Instant,
    ) -> Result<SandboxReport> {
        let id = shared.id;
        let outcome = match made {
            Ok(instance) => {
                let ready = Event::SandboxReady {
                    boot_us: started.elapsed().as_micros() as u64,
                    facts: facts(&instance, &meta),
                    steps: instance.steps.iter().map(boot_step).collect(),
                };
                note(&shared, &ready)
            }
            Err(error) => {
                tracing::warn!(sandbox = %id, error = ?error, "cannot be made");
                let failed = Event::SandboxFailed {
                    failure_reason: FailureReason::ProvisionFailed,
                    message: error.to_string(),
                };
                note(&shared, &failed).and(Err(error.into()))
            }
        };
        if outcome.is_err()
            && let Err(error) = driver.destroy(meta.spec.id).await
        {
            // Its record stays, so that deleting it tries again.
            tracing::error!(sandbox = %id, %error, "what was half made could not be removed");
        }
        let report = shared.report();
        self.insert(id, self.start_actor(shared, driver, meta, Some(image)));
        self.reports.tell(report.clone());
        outcome.map(|()| report)
    }

    fn child_meta(&self, request: &ForkSandbox) -> Result<Meta> {
        let mut meta = Meta::load(&self.layout.meta(request.parent))
            .map_err(|e| Error::internal(format!("cannot read meta.json: {e}")))?;
        meta.spec.id = request.id;
        meta.spec.hostname = hostname(request.id, request.name.as_deref());
        meta.env.extend(request.env.clone());
        meta.forked_from = Some(request.parent);
        Ok(meta)
    }
}

async fn in_time(
    work: impl Future<Output = std::result::Result<Instance, DriverError>>,
) -> std::result::Result<Instance, DriverError> {
    let limit = Duration::from_secs(PROVISION_TIMEOUT_SECONDS);
    let made = tokio::time::timeout(limit, work).await;
    made.unwrap_or(Err(DriverError::TooSlow(PROVISION_TIMEOUT_SECONDS)))
}

fn note(shared: &Shared, event: &Event) -> Result<()> {
    let appended = shared
        .journal
        .append(&[event.record()])
        .map_err(|e| journal_error(&e))?;
    shared.history.write().event(event, appended.at);
    Ok(())
}

fn meta_of(request: &CreateSandbox, image: &Image, driver: &dyn Driver) -> Result<Meta> {
    let mut env: BTreeMap<String, String> = image.config.env.iter().cloned().collect();
    env.extend(request.env.clone());
    let user = if driver.capabilities().users {
        image.config.user.clone()
    } else {
        String::new()
    };
    Ok(Meta {
        spec: Spec {
            id: request.id,
            resources: request.resources,
            rootfs: rootfs(image),
            privilege: privilege(request.privilege.as_deref(), image, driver)?,
            network: network(&request.network, driver)?,
            hostname: hostname(request.id, request.name.as_deref()),
        },
        driver: driver.capabilities().driver.clone(),
        image: image.clone(),
        user,
        env,
        forked_from: None,
    })
}

fn kind(meta: &Meta, driver: &Arc<dyn Driver>) -> pool::Kind {
    pool::Kind {
        spec: meta.spec.clone(),
        driver: Arc::clone(driver),
        image: meta.image.clone(),
    }
}

fn rootfs(image: &Image) -> Rootfs {
    Rootfs {
        layers: image.layers.clone(),
        binds: image
            .binds
            .iter()
            .map(|b| Bind {
                source: b.source.clone(),
                target: b.target.clone(),
            })
            .collect(),
    }
}

/// As asked; else what the image is for: `base` has sudo, so it gets the level where sudo works.
fn privilege(asked: Option<&str>, image: &Image, driver: &dyn Driver) -> Result<Privilege> {
    let capabilities = driver.capabilities();
    match asked {
        Some("restricted") => Ok(Privilege::Restricted),
        Some("root") if capabilities.level_root => Ok(Privilege::Root),
        Some("root") => Err(capabilities.unsupported("give privilege level root").into()),
        Some(other) => Err(Error::validation(format!(
            "privilege is `{other}`; it must be `restricted` or `root`"
        ))),
        None if image.kind == Kind::Base && capabilities.level_root => Ok(Privilege::Root),
        None => Ok(Privilege::Restricted),
    }
}

fn network(asked: &str, driver: &dyn Driver) -> Result<NetworkMode> {
    let capabilities = driver.capabilities();
    match asked {
        "none" => Ok(NetworkMode::None),
        "nat" if capabilities.nat => Ok(NetworkMode::Nat),
        "nat" => Err(capabilities.unsupported("give network nat").into()),
        other => Err(Error::validation(format!(
            "network is `{other}`; it must be `none` or `nat`"
        ))),
    }
}

/// The name where it can be a host name, else the id's label.
fn hostname(id: SandboxId, name: Option<&str>) -> String {
    let is_label = |n: &&str| {
        n.len() <= 63
            && !n.starts_with('-')
            && !n.ends_with('-')
            && n.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.filter(|n| !n.is_empty())
        .filter(is_label)
        .map_or_else(|| id.label(), str::to_owned)
}

fn boot_step(step: &Step) -> BootStep {
    BootStep {
        name: step.name.clone(),
        us: step.took.as_micros() as u64,
    }
}

fn facts(instance: &Instance, meta: &Meta) -> SandboxFacts {
    let facts = &instance.facts;
    SandboxFacts {
        driver: facts.driver.clone(),
        isolation: facts.isolation.as_str().to_owned(),
        privilege: match facts.privilege {
            Privilege::Restricted => "restricted".to_owned(),
            Privilege::Root => "root".to_owned(),
        },
        storage: facts.storage.clone(),
        disk_quota: facts.disk_quota,
        limits: facts.limits,
        image_digest: meta.image.digest.clone(),
        fork: meta.forked_from.map(|_| "files".to_owned()),
    }
}
