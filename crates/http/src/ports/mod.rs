//! Ports of sandboxes, reached from outside: `{port}-{sandbox}.{domain}` is the program that listens there.
//!
//! Invariants: a host name of a port never leads to a route of ours; a program never sees a key, a cookie or a link of ours; what a program
//! says reaches nobody else's pages.

mod access;
mod address;
mod forward;
mod front;
mod headers;
mod target;
mod wire;

pub(crate) use access::{Link, PARAMETER};
pub use address::Way;
pub(crate) use address::{Peer, Secure};
pub(crate) use front::front;
pub use target::Target;
pub(crate) use target::bad_port;
