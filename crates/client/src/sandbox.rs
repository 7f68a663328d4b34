//! One sandbox: its life.

use reqwest::Method;
use serde::Serialize;
use skerry_api::{
    DeletedSandbox, Egress, Event, EventPage, ForkList, ForkMany, ForkSandbox, ForkTree, Metrics,
    PortAddress, PortQuery, ProcessList, Sandbox as Record, SetTimeout, StoppedSandbox,
};
use skerry_types::SandboxId;

use crate::client::Client;
use crate::error::Result;
use crate::follow::Follow;
use crate::retry::Repeat;

/// A sandbox of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    client: Client,
    id: SandboxId,
    name: String,
}

#[derive(Serialize)]
struct Until {
    until: &'static str,
    timeout_seconds: u64,
}

#[derive(Serialize)]
pub(crate) struct PageQuery<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<&'a str>,
    pub(crate) limit: u32,
}

impl Sandbox {
    pub(crate) fn new(client: Client, id: SandboxId) -> Self {
        let name = id.to_string();
        Self { client, id, name }
    }

    /// Which.
    pub fn id(&self) -> SandboxId {
        self.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The route below this sandbox.
    pub(crate) fn below<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["sandboxes", self.name.as_str()], rest].concat()
    }

    /// Its record.
    pub async fn get(&self) -> Result<Record> {
        self.client.get(&self.below(&[]), &()).await
    }

    /// Waits until it runs. An error when it ended instead, or after this many seconds (1 to 300).
    pub async fn wait_running(&self, seconds: u64) -> Result<Record> {
        self.wait("running", seconds).await
    }

    /// Waits until it has ended. An error after this many seconds (1 to 300).
    pub async fn wait_ended(&self, seconds: u64) -> Result<Record> {
        self.wait("ended", seconds).await
    }

    async fn wait(&self, until: &'static str, timeout_seconds: u64) -> Result<Record> {
        let query = Until {
            until,
            timeout_seconds,
        };
        self.client.get(&self.below(&["wait"]), &query).await
    }

    /// Asks it to end. Its record stays.
    pub async fn stop(&self) -> Result<StoppedSandbox> {
        let route = self.below(&["stop"]);
        self.client.tell(&route, Repeat::Safe).await
    }

    /// Removes it with all it has.
    pub async fn delete(&self) -> Result<DeletedSandbox> {
        self.client.delete(&self.below(&[])).await
    }

    /// Makes a fork of it. It runs on.
    pub async fn fork(&self, request: &ForkSandbox) -> Result<Record> {
        let route = self.below(&["fork"]);
        self.client.post_once(&route, request).await
    }

    /// Makes several forks of one instant of it. It runs on.
    pub async fn fork_many(&self, request: &ForkMany) -> Result<ForkList> {
        let route = self.below(&["forks"]);
        self.client.post_once(&route, request).await
    }

    /// Its whole family.
    pub async fn tree(&self) -> Result<ForkTree> {
        self.client.get(&self.below(&["forks"]), &()).await
    }

    /// Changes when it ends.
    pub async fn set_timeout(&self, request: &SetTimeout) -> Result<Record> {
        let route = self.below(&["timeout"]);
        self.client.post(&route, request, Repeat::Safe).await
    }

    /// Says where it may connect, instead of what was said before.
    pub async fn set_egress(&self, rules: &Egress) -> Result<Record> {
        let route = self.below(&["egress"]);
        let request = self.client.request(Method::PUT, &route).json(rules);
        self.client.answer(request, Repeat::Safe).await
    }

    /// Freezes it, where its driver can.
    pub async fn pause(&self) -> Result<Record> {
        let route = self.below(&["pause"]);
        self.client.tell(&route, Repeat::IfRefused).await
    }

    /// Thaws it.
    pub async fn resume(&self) -> Result<Record> {
        let route = self.below(&["resume"]);
        self.client.tell(&route, Repeat::IfRefused).await
    }

    /// Starts it again after it has ended, with the files that it had.
    pub async fn start_again(&self) -> Result<Record> {
        let route = self.below(&["start"]);
        self.client.tell(&route, Repeat::IfRefused).await
    }

    /// Says that it is in use: its idle time starts again.
    pub async fn ping(&self) -> Result<()> {
        let route = self.below(&["ping"]);
        self.client.tell(&route, Repeat::Safe).await
    }

    /// What it uses now.
    pub async fn metrics(&self) -> Result<Metrics> {
        self.client.get(&self.below(&["metrics"]), &()).await
    }

    /// Where a port of it is reached; the signed address lets somebody in for so many seconds.
    pub async fn port(&self, port: u16, ttl_seconds: u64) -> Result<PortAddress> {
        let query = PortQuery {
            ttl_seconds: Some(ttl_seconds),
        };
        let port = port.to_string();
        self.client
            .get(&self.below(&["ports", &port]), &query)
            .await
    }

    /// What runs in it.
    pub async fn processes(&self) -> Result<ProcessList> {
        self.client.get(&self.below(&["processes"]), &()).await
    }

    /// A page of what happened in it, oldest first; also after it ended.
    pub async fn events(&self, cursor: Option<&str>) -> Result<EventPage> {
        let limit = skerry_types::limits::MAX_PAGE;
        let query = PageQuery { cursor, limit };
        self.client.get(&self.below(&["events"]), &query).await
    }

    /// Everything that happens in it after the event with this number, until it is deleted.
    pub fn follow_events(&self, after: u64) -> Follow<Event> {
        let url = self.client.route(&self.below(&["stream"]));
        let is_last = |event: &Event| event.kind == "sandbox.deleted";
        Follow::new(self.client.clone(), url, after, is_last)
    }
}
