//! The spawner as a program of its own, for the tests and the example.

use std::process::ExitCode;

fn main() -> ExitCode {
    skerry_driver_ns::spawner::main()
}
