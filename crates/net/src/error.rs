//! What can go wrong on the daemon's side of the network.

use std::io;
use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the network could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gateway's folder could not be made or locked.
    #[error("cannot prepare the gateway's folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The control socket could not be made.
    #[error("cannot listen on {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The gateway program could not be started.
    #[error("cannot start the gateway {program}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The gateway does not answer, or stopped in the middle of a request.
    #[error("no answer from the network gateway; the last line of its log: {log}")]
    Connection {
        /// What the gateway wrote last.
        log: String,
        /// What happened to the request.
        #[source]
        source: io::Error,
    },
    /// The running gateway belongs to another version of this program.
    #[error("the running gateway speaks protocol {theirs}, this program {ours}: stop it first")]
    Generation {
        /// The gateway's.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// Sandboxes on this machine can have no way out.
    #[error("this machine cannot give a sandbox a network: {reason}")]
    NatUnavailable {
        /// What is missing and how to get it.
        reason: String,
    },
    /// Whose user namespace the networks belong to cannot be told.
    #[error("cannot look at the gateway's user namespace")]
    Userns(#[source] io::Error),
    /// Every address of the subnet is taken.
    #[error("no free address: every one of the sandbox subnet is in use")]
    NoAddress,
    /// The gateway could not make a network namespace.
    #[error("cannot make a network namespace: {message}")]
    Make {
        /// The step that failed, and why.
        message: String,
    },
    /// The sandbox already has a network of another kind.
    #[error("the sandbox already has a network of another kind")]
    OtherKind,
    /// The sandbox has no network.
    #[error("the sandbox has no network")]
    NoSandbox,
    /// The gateway answered something else than was asked.
    #[error("the gateway gave an answer that does not fit the request")]
    Unexpected,
}
