//! Clients of the E2B protocol, unchanged, over the same use-cases as `/v1`: an adapter, on the same listener.
//!
//! Two protocols in one: the control plane (`api`), and `envd`, which those clients believe to be a server inside each sandbox. Invariants:
//! nothing is decided here that `/v1` would not decide the same way; status codes and bodies are to the letter those that the published
//! clients parse; what cannot be done is refused, never ignored.
#![warn(missing_docs)]

mod api;
mod cors;
mod envd;
mod error;
pub mod frame;
mod front;
mod place;
mod port;
mod token;
mod usage;

pub use front::front;
