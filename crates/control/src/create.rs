//! Creating: checked, put on record within the quota, given a place or a place in the queue.

use skerry_proto::node::Map;
use skerry_recipe::ready_made;
use skerry_store::{
    Mounted, Network, NewSandbox, Privilege, Sandbox as Row, Snapshot, Tenant, Wanted,
};
use skerry_types::{
    Error, ErrorCode, NodeId, Profile, Result, SandboxId, SandboxState, SnapshotId, limits,
};

use crate::live::Making;
use crate::make::Recipe;
use crate::nodes::{Wish, join};
use crate::snapshots::{RESERVED, of_snapshot};
use crate::{Caller, Control, CreateRequest, OnTimeout, Quotas, Sandbox, Scope};
use crate::{egress, validate};

/// What a sandbox is made from.
pub(crate) enum Source {
    /// The image of this name.
    Image(String),
    /// This snapshot, and the name of the template that it is of.
    Snapshot(Box<Snapshot>, Option<String>),
}

impl Source {
    /// For the record: what it is, and the name of its template.
    pub(crate) fn names(self) -> (String, Option<String>) {
        match self {
            Self::Image(name) => (name, None),
            Self::Snapshot(snapshot, template) => (snapshot.id.to_string(), template),
        }
    }
}

impl Control {
    /// Makes a sandbox. Returns as soon as it is on record, provisioning or queued; [`Control::wait_until`] tells the rest.
    pub async fn create(&self, caller: &Caller, request: CreateRequest) -> Result<Sandbox> {
        self.takes_work()?;
        validate::create(&request)?;
        let (request, source) = self.source(caller, request).await?;
        let (volumes, keeper) = self.mounts(&caller.tenant, &request.volumes).await?;
        let region = request.region.clone();
        let wish = Wish {
            driver: request.driver.clone(),
            isolation: request.isolation.clone(),
            volumes: !volumes.is_empty(),
            region: region.unwrap_or_else(|| self.0.settings.region.clone()),
        };
        let node = match &source {
            Source::Image(_) => self.choose(&wish)?,
            Source::Snapshot(snapshot, _) => Some(self.node_with(snapshot, &wish)?),
        };
        if keeper.is_some() && keeper != node {
            return Err(Error::unsupported("volumes: they are on another node"));
        }
        let quotas = self.quotas(caller).await?;
        let (env, id) = (request.env.clone(), request.id);
        let new = self.new_sandbox(request, wish, source, volumes, quotas)?;
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move { control.place(&tenant, new, id, env, node).await })
            .await
    }

    /// The node with most room among those that can do what is wished; `None` while all of them are silent.
    pub(crate) fn choose(&self, wish: &Wish) -> Result<Option<NodeId>> {
        let fitting = self.0.nodes.fitting(wish)?;
        let silent = self.0.silent.lock();
        let room = |slots: u32, id| i64::from(slots) - self.0.live.held(id) as i64;
        let best = fitting
            .iter()
            .filter(|m| !silent.contains_key(&m.facts.id))
            .max_by_key(|m| room(m.facts.slots, m.facts.id));
        Ok(best.map(|m| m.facts.id))
    }

    /// The node that has the snapshot, which is where a sandbox from it is made.
    fn node_with(&self, snapshot: &Snapshot, wish: &Wish) -> Result<NodeId> {
        let id = snapshot.node_id;
        let refuse = |code, why: &str| {
            let text = format!("snapshot {} is on a node that {why}", snapshot.id);
            Err(Error::new(code, text))
        };
        if self.0.nodes.get(id).is_none() || self.0.silent.lock().contains_key(&id) {
            return refuse(ErrorCode::NodeUnreachable, "cannot be reached");
        }
        if !self.0.nodes.fitting(wish)?.iter().any(|m| m.facts.id == id) {
            return refuse(ErrorCode::Unsupported, "does not offer what is asked for");
        }
        Ok(id)
    }

    /// What it is made from. A snapshot also fixes some of the request.
    pub(crate) async fn source(
        &self,
        caller: &Caller,
        request: CreateRequest,
    ) -> Result<(CreateRequest, Source)> {
        if let Some(asked) = request.image.as_deref()
            && let Some((snapshot, template)) = self.find_source(&caller.tenant, asked).await?
        {
            let request = of_snapshot(request, &snapshot)?;
            return Ok((request, Source::Snapshot(Box::new(snapshot), template)));
        }
        let image = self.image(&caller.tenant, request.image.as_deref()).await?;
        Ok((request, Source::Image(image)))
    }

    /// The snapshot that this is, by name, by id, or as a template. None has a reserved name, so none is looked for.
    async fn find_source(
        &self,
        tenant: &Tenant,
        asked: &str,
    ) -> Result<Option<(Snapshot, Option<String>)>> {
        if RESERVED.contains(&asked) {
            return Ok(None);
        }
        if let Some(snapshot) = self.find_snapshot(tenant, asked).await? {
            return Ok(Some((snapshot, None)));
        }
        let found = self.find_template(tenant, asked).await?;
        Ok(found.map(|(snapshot, name)| (snapshot, Some(name))))
    }

    /// Whether sandboxes can be made from an image of this name.
    pub async fn has_image(&self, caller: &Caller, reference: &str) -> Result<bool> {
        caller.require(Scope::SandboxRead)?;
        Ok(self.0.images.resolve(reference).await?.is_some())
    }

    /// The image's name for the record.
    async fn image(&self, tenant: &Tenant, asked: Option<&str>) -> Result<String> {
        let images = &self.0.images;
        let reference = asked.unwrap_or(&self.0.settings.default_image);
        // What reads as a snapshot's id on record is a snapshot, and whoever makes that record must own it.
        let name = images.resolve(reference).await?;
        if let Some(name) = name.filter(|name| name.parse::<SnapshotId>().is_err()) {
            return Ok(name);
        }
        let mut there = images.names().await?;
        there.extend(self.template_names(tenant).await?);
        Err(Error::validation(format!(
            "image `{}` does not exist; there is: {}",
            validate::shown(reference),
            join(there.iter().map(String::as_str))
        ))
        .with_hint(match reference {
            "base" => "`skerry image build base` makes it on its node".to_owned(),
            name if ready_made(name).is_some() => {
                format!("`skerry template build --ready-made {name}` makes it")
            }
            _ => "`skerry image pull` gets one from a registry".to_owned(),
        }))
    }

    fn new_sandbox(
        &self,
        request: CreateRequest,
        wish: Wish,
        source: Source,
        volumes: Vec<Mounted>,
        quotas: Quotas,
    ) -> Result<NewSandbox> {
        let (image, template) = source.names();
        let resources = validate::resources(&request)?;
        let network = request
            .network
            .as_deref()
            .unwrap_or(&self.0.settings.default_network);
        let network = Network::from_name(network)
            .ok_or_else(|| Error::internal("the default network is not a network"))?;
        let egress = request.egress.clone().unwrap_or_default();
        egress::check(network, &egress)?;
        let max_ttl = quotas.max_ttl_seconds;
        let ttl = match request.ttl_seconds {
            Some(ttl) => validate::ttl(ttl, max_ttl)?,
            None => max_ttl.min(limits::DEFAULT_TTL_SECONDS as u32),
        };
        let idle = request.idle_seconds.map(validate::idle).transpose()?;
        let queue_timeout = request
            .queue_timeout_seconds
            .unwrap_or(limits::DEFAULT_QUEUE_TIMEOUT_SECONDS);
        let sized = validate::single_values(&request);
        let profile = match request.profile.as_deref() {
            Some(name) => Profile::from_name(name),
            None => (!sized).then_some(Profile::Small),
        };
        Ok(NewSandbox {
            // The real one is given when its turn has come, so that ids of their own are in the order of the queue.
            id: SandboxId::new(),
            name: request.name,
            project: request.project,
            region: wish.region,
            image,
            template,
            profile,
            resources,
            wanted: Wanted {
                driver: wish.driver,
                isolation: wish.isolation,
                privilege: request.privilege.as_deref().and_then(Privilege::from_name),
            },
            network,
            egress,
            metadata: request.metadata,
            env_names: request.env.into_keys().collect(),
            ttl_seconds: ttl,
            idle_seconds: idle.unwrap_or(quotas.idle_timeout_seconds),
            on_timeout: request.on_timeout.unwrap_or(OnTimeout::Stop),
            on_idle: request.on_idle,
            auto_resume: request.auto_resume,
            keep_paused: request.keep_paused,
            public_ports: request.public_ports,
            ports: request.ports,
            volumes,
            queue_timeout_seconds: validate::queue_timeout(queue_timeout)?,
        })
    }

    /// Puts it on record and begins to make it, or lets it wait.
    async fn place(
        &self,
        tenant: &Tenant,
        mut new: NewSandbox,
        id: Option<SandboxId>,
        env: Map,
        node: Option<NodeId>,
    ) -> Result<Sandbox> {
        let placed = {
            let _one_at_a_time = self.0.placing.lock().await;
            new.id = id.unwrap_or_else(SandboxId::new);
            self.still_there(tenant, &new.volumes).await?;
            let (store, now) = (&self.0.store, self.now());
            let row = store.create_sandbox(tenant, new, node, now).await?;
            self.0.live.insert(row.clone(), env);
            let making =
                (row.state == SandboxState::Provisioning).then(|| self.begin_making(row.id));
            (row, making)
        };
        let (row, making) = placed;
        match making {
            Some(making) => self.make_new(row.clone(), making),
            None => self.0.wake.notify_one(),
        }
        Ok(self.view(row))
    }

    /// Makes a placed sandbox from its image, in the background.
    pub(crate) fn make_new(&self, row: Row, making: Making) {
        let env = self
            .0
            .live
            .with(row.id, |entry| std::mem::take(&mut entry.env));
        let recipe = Recipe::New(env.unwrap_or_default());
        let control = self.clone();
        self.0.tasks.spawn(async move {
            // How it went is on the row.
            let _made = control.make(row, recipe, making).await;
        });
    }
}
