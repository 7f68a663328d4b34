//! The processes beside a daemon, for the tests: the launcher, or with `gateway` first, the network's gateway.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "gateway").is_none() {
        return skerry_driver_vm::launcher::main(args);
    }
    match skerry_net::gateway::main(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
