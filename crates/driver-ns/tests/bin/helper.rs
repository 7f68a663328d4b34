//! The processes beside a daemon, for the tests and the example: the spawner, or the network's gateway, or a command with the ids set aside for its user.
#![expect(clippy::print_stderr, reason = "whoever runs the test reads it")]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "users").is_some() {
        let args: Vec<OsString> = args.collect();
        return run_with_users(&args);
    }
    if args.next_if(|arg| arg == "gateway").is_none() {
        return skerry_driver_ns::spawner::main();
    }
    match skerry_net::gateway::main(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The data folder, and the command that stands for a daemon.
fn run_with_users(args: &[OsString]) -> ExitCode {
    let [data, program, rest @ ..] = args else {
        return ExitCode::FAILURE;
    };
    if let Err(error) = skerry_driver_ns::enter_users(Path::new(data)) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    eprintln!("{}", Command::new(program).args(rest).exec());
    ExitCode::FAILURE
}
