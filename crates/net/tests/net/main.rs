//! The network of sandboxes, tried in a world of its own: a namespace that plays the host and one
//! that plays the internet. This program is also the gateway and the daemon of its tests.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of it is test code, which clippy cannot see without the usual harness"
)]

mod cases;
mod egress;
mod roles;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if let Some(role) = args.next().and_then(|a| a.into_string().ok())
        && let Some(play) = roles::find(&role)
    {
        play(args.collect());
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let is_root = rustix::process::geteuid().is_root();
    if !arguments.list {
        world::enter();
    }
    let all = cases::ALL.iter().chain(egress::ALL);
    let trials = all.map(|&(name, case)| {
        Trial::test(name, move || {
            case();
            Ok(())
        })
        .with_ignored_flag(!is_root && cases::NEED_ROOT.contains(&name))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
