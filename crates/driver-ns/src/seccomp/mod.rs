//! The system call filters of a sandbox, made from the table of reasons.

mod table;

use std::collections::BTreeMap;

use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use skerry_sys::seccomp::{self, BpfProgram};

/// Bits of `clone` that make a namespace. `libc` lacks the one for time, which `clone` cannot make anyway.
const NAMESPACE_FLAGS: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWCGROUP,
];
/// Push input into a terminal, as if its user had typed it.
const TERMINAL_INPUT: [libc::Ioctl; 2] = [libc::TIOCSTI, libc::TIOCLINUX];
/// Linux, Linux without address randomisation, and the question which one it is.
const PERSONALITIES: [u32; 3] = [0, libc::ADDR_NO_RANDOMIZE as u32, u32::MAX];
const FAMILIES: [libc::c_int; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The compiled filters, in the order in which they are loaded.
#[derive(Debug)]
pub(crate) struct Filters([BpfProgram; 3]);

impl Filters {
    /// Compiles the table.
    pub(crate) fn compile() -> Result<Self, BackendError> {
        Ok(Self([
            program(allowed(), SeccompAction::Allow, errno(libc::ENOSYS))?,
            program(denied()?, errno(libc::EPERM), SeccompAction::Allow)?,
            program(families()?, errno(libc::EAFNOSUPPORT), SeccompAction::Allow)?,
        ]))
    }

    /// Puts them on this process.
    pub(crate) fn load(&self) -> std::io::Result<()> {
        self.0.iter().try_for_each(seccomp::load)
    }
}

fn errno(number: libc::c_int) -> SeccompAction {
    SeccompAction::Errno(number as u32)
}

fn program(
    rules: Rules,
    hit: SeccompAction,
    miss: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, miss, hit, arch)?.try_into()
}

/// What exists at all: the allowed, and the denied too, so that these get their own answer.
fn allowed() -> Rules {
    let lines = [table::ALLOWED, table::OF_THE_ARCHITECTURE, table::DENIED];
    calls(lines.into_iter().flatten()).collect()
}

fn denied() -> Result<Rules, BackendError> {
    let mut rules: Rules = calls(table::DENIED.iter()).collect();
    let namespaces = NAMESPACE_FLAGS.map(|flag| {
        let flag = u64::from(flag.cast_unsigned());
        rule(vec![SeccompCondition::new(0, Dword, MaskedEq(flag), flag)?])
    });
    rules.insert(
        libc::SYS_clone,
        namespaces.into_iter().collect::<Result<_, _>>()?,
    );
    let terminal = TERMINAL_INPUT.map(|request| {
        rule(vec![SeccompCondition::new(
            1,
            Dword,
            Eq,
            u64::from(request as u32),
        )?])
    });
    rules.insert(
        libc::SYS_ioctl,
        terminal.into_iter().collect::<Result<_, _>>()?,
    );
    let other_personality = PERSONALITIES
        .iter()
        .map(|&known| SeccompCondition::new(0, Dword, Ne, u64::from(known)))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_personality, vec![rule(other_personality)?]);
    Ok(rules)
}

/// Answered like a kernel without them: programs look for that and go on.
fn families() -> Result<Rules, BackendError> {
    let is =
        |argument, value: libc::c_int| SeccompCondition::new(argument, Dword, Eq, value as u64);
    let not =
        |argument, value: libc::c_int| SeccompCondition::new(argument, Dword, Ne, value as u64);
    let other = FAMILIES
        .iter()
        .map(|&family| not(0, family))
        .collect::<Result<Vec<_>, _>>()?;
    let netlink = vec![is(0, libc::AF_NETLINK)?, not(2, libc::NETLINK_ROUTE)?];
    let refused = vec![rule(other)?, rule(netlink)?];
    Ok(Rules::from([
        (libc::SYS_socket, refused.clone()),
        (libc::SYS_socketpair, refused),
    ]))
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

fn calls<'a>(
    lines: impl Iterator<Item = &'a table::Line>,
) -> impl Iterator<Item = (i64, Vec<SeccompRule>)> {
    lines.flat_map(|(numbers, _)| numbers.iter().map(|&number| (number, Vec::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_stands_in_one_place_with_a_reason() {
        let lines = [table::ALLOWED, table::OF_THE_ARCHITECTURE, table::DENIED];
        let lines: Vec<_> = lines.into_iter().flatten().collect();
        assert!(lines.iter().all(|(_, reason)| reason.len() > 5));
        let mut numbers: Vec<i64> = lines.iter().flat_map(|(n, _)| n.iter().copied()).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "a call is listed twice");
        assert!(
            !numbers.contains(&libc::SYS_clone3),
            "its flags are out of a filter's sight"
        );
    }

    #[test]
    fn the_filters_compile_and_are_not_too_long_for_the_kernel() {
        let filters = Filters::compile().unwrap();
        assert!(filters.0.iter().all(|program| program.len() < 4096));
    }
}
