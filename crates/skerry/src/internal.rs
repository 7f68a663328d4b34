//! Processes that a server starts from its own program file.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Subcommand;

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Makes the namespaces of sandboxes
    Spawner,
    /// Starts one behind gVisor
    Gvisor {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Locks in the QEMU of one that is a virtual machine
    Vm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Owns their networks
    Gateway {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Makes a user namespace and ends
    ProbeUserNamespace,
}

/// The command that runs one of them.
pub(crate) fn command(name: &str) -> io::Result<Vec<OsString>> {
    let program = std::env::current_exe()?;
    Ok(vec![program.into(), "internal".into(), name.into()])
}

pub(crate) fn main(internal: Internal) -> ExitCode {
    match internal {
        Internal::Spawner => skerry_driver_ns::spawner::main(),
        Internal::Gvisor { args } => skerry_driver_gvisor::launch::main(args),
        Internal::Vm { args } => skerry_driver_vm::launcher::main(args.into_iter()),
        Internal::Gateway { args } => code(skerry_net::gateway::main(args)),
        Internal::ProbeUserNamespace => code(crate::doctor::unshare_user()),
    }
}

fn code<E: Into<anyhow::Error>>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::cli::report(&error.into()),
    }
}
