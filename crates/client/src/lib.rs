//! The Rust SDK: the REST API of a Skerry server as typed calls.
//!
//! ```no_run
//! use skerry_client::{Client, Output, api::{CreateSandbox, RunExec}};
//!
//! # async fn example() -> Result<(), skerry_client::ClientError> {
//! let client = Client::new("http://127.0.0.1:7300", "sk_…")?;
//! let made = client.create(&CreateSandbox::default()).await?;
//! let sandbox = client.sandbox(made.sandbox_id);
//!
//! let exec = sandbox.start(&skerry_client::shell("echo hello")).await?;
//! let mut events = sandbox.follow(exec.exec_id, 0);
//! while let Some(event) = events.next().await? {
//!     match Output::of(event)? {
//!         Output::Stdout(bytes) => print!("{}", String::from_utf8_lossy(&bytes)),
//!         Output::Stderr(bytes) => eprint!("{}", String::from_utf8_lossy(&bytes)),
//!         Output::Exit(exit) => println!("{:?}", exit.end),
//!     }
//! }
//! sandbox.delete().await?;
//! # Ok(()) }
//! ```
//!
//! Invariants: a mutation is done at most once however often it is sent (each carries an idempotency key, or is not sent again after it might
//! have arrived); a stream that breaks resumes after the last event that was read, without gap or repetition; nothing is retried for ever.
#![warn(missing_docs)]

mod client;
mod error;
mod execs;
mod files;
mod follow;
mod images;
mod output;
mod retry;
mod sandbox;
mod send;
mod sessions;
mod snapshots;
mod sse;
mod templates;
mod terminal;
mod volumes;

/// The shapes that are sent and answered.
pub use skerry_api as api;

pub use client::{Client, ListSandboxes};
pub use error::{ClientError, Result};
pub use execs::{argv, shell};
pub use files::Download;
pub use follow::Follow;
pub use output::{Exit, Output};
pub use reqwest::{Body, Error as HttpError};
pub use sandbox::Sandbox;
pub use sse::Stream;
pub use terminal::{Terminal, TerminalEvent};
