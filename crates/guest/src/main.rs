//! The first process of a virtual machine: makes the ground that the agent stands on, and answers the driver (guest.v1).
//!
//! It stays outside what the sandbox sees: the agent and all that it starts are in namespaces of their own, with a root that has nothing of this
//! process. Its memory is the initial file system's, so it answers also while the sandbox's disk is held still.

mod agent;
mod confine;
mod control;
mod devices;
mod failure;
mod filesystem;
mod ground;
mod identity;
mod links;
mod port;
mod sandbox;

use std::io::Write;

use rustix::system::{RebootCommand, reboot};

use crate::failure::Failure;

fn main() {
    if let Err(failure) = run() {
        // Seen where the machine has a console.
        let _unheard = writeln!(std::io::stderr(), "skerry-guest: {failure}");
    }
    end();
}

fn run() -> Result<(), Failure> {
    let ground = ground::lay()?;
    control::serve(&ground)
}

/// Ends the machine.
fn end() {
    rustix::fs::sync();
    // The kernel ends a machine whose first process ends, too.
    let _ended = reboot(RebootCommand::Restart);
}
