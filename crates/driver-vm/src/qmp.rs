//! QEMU's monitor: one command, one answer. What it says is a stranger's, since the guest may have taken it over.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use skerry_driver::DriverError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::record::{Place, Socket};

const PATIENCE: Duration = Duration::from_secs(20);
/// The longest line it may say.
const MAX_LINE: u64 = 64 * 1024;
/// Events between a command and its answer, at most.
const MAX_EVENTS: usize = 64;

/// A monitor, spoken to by one at a time.
#[derive(Debug)]
pub(crate) struct Monitor {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Monitor {
    /// Connects and agrees on the manners.
    pub(crate) async fn connect(place: &Place) -> Result<Self, DriverError> {
        let begin = async {
            let stream = place.connect(Socket::Monitor).await?;
            let (reader, writer) = stream.into_split();
            let mut monitor = Self {
                lines: BufReader::new(reader),
                writer,
            };
            monitor.line().await?;
            Ok(monitor)
        };
        let mut monitor = patient(begin).await?;
        monitor.run("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    /// Holds the processors still.
    pub(crate) async fn stop(&mut self) -> Result<(), DriverError> {
        self.run("stop", json!({})).await
    }

    /// Lets them go on.
    pub(crate) async fn go_on(&mut self) -> Result<(), DriverError> {
        self.run("cont", json!({})).await
    }

    /// Writes all that the machine is but its memory into a file of its own.
    pub(crate) async fn save_devices(&mut self, file: &str) -> Result<(), DriverError> {
        let arguments = json!({ "filename": file, "live": false });
        self.run("xen-save-devices-state", arguments).await
    }

    /// Whether it stands because there was no room for what it wrote.
    pub(crate) async fn stands_for_room(&mut self) -> Result<bool, DriverError> {
        let status = patient(self.exchange("query-status", json!({}))).await?;
        Ok(status["status"] == "io-error")
    }

    /// Returns once it stands although nobody here stopped it.
    pub(crate) async fn until_it_stands(&mut self) -> Result<(), DriverError> {
        loop {
            let line = self.line().await;
            let line = line.map_err(DriverError::step("hear QEMU's monitor"))?;
            if line["event"] == "STOP" {
                return Ok(());
            }
        }
    }

    async fn run(&mut self, command: &str, arguments: Value) -> Result<(), DriverError> {
        patient(self.exchange(command, arguments)).await.map(drop)
    }

    async fn exchange(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let mut text = json!({ "execute": command, "arguments": arguments }).to_string();
        text.push('\n');
        self.writer.write_all(text.as_bytes()).await?;
        for _ in 0..MAX_EVENTS {
            let mut answer = self.line().await?;
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("{command}: {error}")));
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    async fn line(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.lines).take(MAX_LINE);
        if bounded.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

async fn patient<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, DriverError> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(DriverError::step("ask QEMU's monitor")),
        Err(_) => Err(DriverError::TooSlow(PATIENCE.as_secs())),
    }
}
