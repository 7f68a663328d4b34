//! Streams that outlive their connections.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{ClientError, Result};
use crate::retry::backoff;
use crate::sse::Stream;

/// For how long a broken stream is tried again before it is given up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A numbered stream of events that resumes after the last one that was read, without gap or repetition, whatever connection breaks.
pub struct Follow<T> {
    client: Client,
    url: Url,
    after: u64,
    is_last: fn(&T) -> bool,
    stream: Option<Stream<T>>,
    outage: Outage,
    over: bool,
}

impl<T> fmt::Debug for Follow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("url", &self.url.path())
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Follow<T> {
    pub(crate) fn new(client: Client, url: Url, after: u64, is_last: fn(&T) -> bool) -> Self {
        Self {
            client,
            url,
            after,
            is_last,
            stream: None,
            outage: Outage::default(),
            over: false,
        }
    }

    /// The number of the last event that was read.
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next event; `None` after the last. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<T>> {
        while !self.over {
            match self.try_next().await {
                Ok(Some(event)) => {
                    self.over = (self.is_last)(&event);
                    self.outage = Outage::default();
                    return Ok(Some(event));
                }
                Ok(None) => self.pause(ClientError::CutOff).await?,
                Err(error) => self.pause(error).await?,
            }
        }
        Ok(None)
    }

    async fn try_next(&mut self) -> Result<Option<T>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self
                .stream
                .insert(self.client.connect(&self.url, self.after).await?),
        };
        let Some((id, event)) = stream.next_numbered().await? else {
            return Ok(None);
        };
        self.after = id.unwrap_or(self.after);
        Ok(Some(event))
    }

    async fn pause(&mut self, error: ClientError) -> Result<()> {
        self.stream = None;
        let paused = self.outage.pause(error).await;
        self.over = paused.is_err();
        paused
    }
}

impl Client {
    /// One connection to a stream, after the event with this number.
    async fn connect<T: DeserializeOwned>(&self, url: &Url, after: u64) -> Result<Stream<T>> {
        let request = self.http().get(url.clone());
        let request = request.header("last-event-id", after);
        let request = request.build().map_err(ClientError::Request)?;
        Ok(Stream::new(self.send_once(request).await?))
    }
}

/// How long a stream has been away.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    attempts: u32,
}

impl Outage {
    /// Waits before the next attempt; gives the error back when there shall be none.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !error.is_transient() || since.elapsed() > PATIENCE {
            return Err(error);
        }
        let pause = backoff(self.attempts);
        self.attempts += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
