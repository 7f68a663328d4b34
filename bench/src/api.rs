//! The public HTTP API as plain requests, so that no client library is part of what is measured.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_mins(2);

/// A server and the key to it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: Client,
    url: String,
}

impl Api {
    pub(crate) fn new(url: &str, key: &str) -> Result<Self> {
        let bearer = HeaderValue::from_str(&format!("Bearer {key}"))?;
        let http = Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .timeout(TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy()
            .build()?;
        let url = format!("{url}/v1");
        Ok(Self { http, url })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        if !response.status().is_success() {
            bail!("{path}: {}", response.text().await?);
        }
        Ok(response)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let response = self.send(method, path, body).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    /// Imports an archive that `docker save` would write, under this name.
    pub(crate) async fn import(&self, name: &str, archive: Vec<u8>) -> Result<()> {
        let url = format!("{}/images/import?reference={name}", self.url);
        let response = self.http.post(url).body(archive).send().await?;
        ensure!(response.status().is_success(), response.text().await?);
        Ok(())
    }

    /// Makes a sandbox that runs when this returns.
    pub(crate) async fn create(&self, body: &Value) -> Result<Sandbox> {
        self.running(&self.call(Method::POST, "/sandboxes", Some(body)).await?)
    }

    /// Forgets a snapshot.
    pub(crate) async fn remove_snapshot(&self, snapshot: &str) -> Result<()> {
        let path = format!("/snapshots/{snapshot}");
        self.send(Method::DELETE, &path, None).await.map(drop)
    }

    fn running(&self, made: &Value) -> Result<Sandbox> {
        ensure!(made["status"] == "running", "not running: {made}");
        let id = made["sandbox_id"].as_str().context("no id")?;
        Ok(Sandbox {
            api: self.clone(),
            path: format!("/sandboxes/{id}"),
            boot_us: made["boot_us"].as_f64().unwrap_or_default(),
            accelerator: made["facts"]["accelerator"].as_str().map(str::to_owned),
        })
    }
}

/// A running sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    api: Api,
    path: String,
    /// What the server says that making it took.
    pub(crate) boot_us: f64,
    /// What runs its instructions, if it is a virtual machine.
    pub(crate) accelerator: Option<String>,
}

impl Sandbox {
    async fn post(&self, route: &str, body: &Value) -> Result<Value> {
        let path = format!("{}{route}", self.path);
        self.api.call(Method::POST, &path, Some(body)).await
    }

    /// Runs a program to its end and returns what it wrote. An error unless it ended well.
    pub(crate) async fn run(&self, argv: &[&str]) -> Result<String> {
        let ended = self.post("/exec", &json!({ "cmd": argv })).await?;
        ensure!(ended["exit_code"] == 0, "{argv:?}: {ended}");
        Ok(ended["stdout"].as_str().unwrap_or_default().to_owned())
    }

    /// Starts a program and returns its exec's id.
    pub(crate) async fn start(&self, argv: &[&str]) -> Result<String> {
        let body = json!({ "cmd": argv, "wait": false });
        let started = self.post("/exec", &body).await?;
        Ok(started["exec_id"].as_str().context("no id")?.to_owned())
    }

    /// Reads an exec's server-sent events until one that `is_enough` is content with. Returns the bytes read.
    pub(crate) async fn stream(
        &self,
        exec: &str,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<u64> {
        let path = format!("{}/exec/{exec}/stream", self.path);
        let response = self.api.send(Method::GET, &path, None).await?;
        let mut body = response.bytes_stream();
        let mut read = 0;
        // An event may be cut anywhere: the end of what came before is looked at again.
        let mut tail = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            read += chunk.len() as u64;
            tail.extend_from_slice(&chunk[chunk.len().saturating_sub(1024)..]);
            if is_enough(&tail) {
                return Ok(read);
            }
            tail.drain(..tail.len().saturating_sub(1024));
        }
        bail!("the stream of {exec} ended without what it should have")
    }

    /// How many bytes an exec has written to stdout.
    pub(crate) async fn stdout_bytes(&self, exec: &str) -> Result<u64> {
        let path = format!("{}/exec/{exec}", self.path);
        let exec = self.api.call(Method::GET, &path, None).await?;
        exec["stdout_bytes"].as_u64().context("no stdout_bytes")
    }

    /// Makes a fork of it that runs when this returns.
    pub(crate) async fn fork(&self) -> Result<Self> {
        self.api.running(&self.post("/fork", &json!({})).await?)
    }

    /// Makes a fork of it that goes on with its memory and processes.
    pub(crate) async fn fork_with_memory(&self) -> Result<Self> {
        let wish = json!({ "memory": "required" });
        self.api.running(&self.post("/fork", &wish).await?)
    }

    /// Takes a snapshot with memory: its id, and for how long the sandbox stood still.
    pub(crate) async fn snapshot(&self) -> Result<(String, Duration)> {
        let wish = json!({ "memory": "required" });
        let kept = self.post("/snapshots", &wish).await?;
        let id = kept["snapshot_id"].as_str().context("no id")?;
        let held = kept["held_us"].as_u64().context("no held_us")?;
        Ok((id.to_owned(), Duration::from_micros(held)))
    }

    /// The steps of the last event of this type in its record, with their milliseconds.
    pub(crate) async fn steps(&self, event: &str) -> Result<Vec<(String, f64)>> {
        let path = format!("{}/events?limit=200", self.path);
        let page = self.api.call(Method::GET, &path, None).await?;
        let mut events = page["events"].as_array().context("no events")?.iter().rev();
        let event = events.find(|found| found["type"] == event);
        let steps = event.context("no such event")?["data"]["steps"].as_array();
        let step = |step: &Value| {
            let name = step["name"].as_str().unwrap_or_default();
            let us = step["us"].as_f64().unwrap_or_default();
            (name.to_owned(), us / 1e3)
        };
        Ok(steps.into_iter().flatten().map(step).collect())
    }

    pub(crate) async fn delete(&self) -> Result<()> {
        self.api
            .call(Method::DELETE, &self.path, None)
            .await
            .map(drop)
    }
}
