//! QEMU's monitor, as far as keeping and waking up a machine needs it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(1);

pub(super) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects as soon as there is something to connect to.
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        let began = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket).await {
                Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(POLL).await,
                stream => break stream?,
            }
        };
        let mut monitor = Self(BufReader::new(stream));
        monitor.call("qmp_capabilities", &json!({})).await?;
        Ok(monitor)
    }

    pub(super) async fn call(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": name, "arguments": arguments });
        self.0.write_all(format!("{request}\n").as_bytes()).await?;
        let answer = async {
            loop {
                let mut line = String::new();
                if self.0.read_line(&mut line).await? == 0 {
                    bail!("{name}: it hung up");
                }
                let mut said: Value = serde_json::from_str(&line)?;
                if let Some(error) = said.get("error") {
                    bail!("{name}: {error}");
                }
                if let Some(done) = said.get_mut("return") {
                    return Ok(done.take());
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .context("it does not answer")?
    }

    /// Says that memory in a shared file is no part of what is written or read.
    pub(super) async fn leave_memory_out(&mut self) -> Result<()> {
        let ignore = json!([{ "capability": "x-ignore-shared", "state": true }]);
        self.call(
            "migrate-set-capabilities",
            &json!({ "capabilities": ignore }),
        )
        .await?;
        Ok(())
    }

    /// Writes everything but its memory to a file. It stands.
    pub(super) async fn save(&mut self, file: &Path) -> Result<()> {
        self.call("stop", &json!({})).await?;
        let uri = json!({ "uri": format!("file:{}", file.display()) });
        self.call("migrate", &uri).await?;
        loop {
            match self.call("query-migrate", &json!({})).await?["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed") => bail!("it could not be written"),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}
