//! The system call filter of a sandbox, made from the table of reasons.
//!
//! One program that finds a call by halving the range of numbers. The kernel runs a new filter for every call there is when it is loaded, so a
//! program that compares one number after the other would make that the longest step of a create.

mod table;

use std::collections::BTreeMap;
use std::io;

use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS};
use skerry_sys::seccomp::{
    self, ARCH, ARCHITECTURE, Instruction, NUMBER, answer, argument, if_any_bit, if_at_least,
    if_equal, keep_bits, load_word, skip,
};

/// Bits of `clone` that make a namespace. `libc` lacks the one for time, which `clone` cannot make anyway.
const NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP) as u32;
/// Push input into a terminal, as if its user had typed it.
const TERMINAL_INPUT: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];
/// Requests of this type are btrfs's own: with them whoever owns a folder makes subvolumes in it, which no quota of ours bounds.
const TYPE: u32 = 0xff00;
const BTRFS: u32 = 0x9400;
/// Of that type too, but of every file system that shares blocks: `FICLONE`, `FICLONERANGE` and `FIDEDUPERANGE`.
const SHARE_BLOCKS: [u32; 3] = [0x4004_9409, 0x4020_940d, 0xc018_9436];
/// Linux, Linux without address randomisation, and the question which one it is.
const PERSONALITIES: [u32; 3] = [0, libc::ADDR_NO_RANDOMIZE as u32, u32::MAX];
/// The process that calls. Those of the agent's uid could set its limits too, and so keep it from opening files, or end it.
const OWN: u32 = 0;
/// All of whose protocols may be used.
const FAMILIES: [u32; 3] = [
    libc::AF_UNIX as u32,
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
];
/// Numbers from here on are the calls of another interface of the same architecture (x32), which nothing here is made for.
const FOREIGN: u32 = 0x4000_0000;

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is done.
    Allow,
    /// It is refused.
    Deny,
    /// It does not exist.
    Unknown,
    /// Its arguments decide.
    Look(Check),
}

/// Which arguments decide, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Clone,
    Ioctl,
    Limits,
    Personality,
    Socket,
}

const CHECKED: [(i64, Check); 6] = [
    (libc::SYS_clone, Check::Clone),
    (libc::SYS_ioctl, Check::Ioctl),
    (libc::SYS_personality, Check::Personality),
    (libc::SYS_prlimit64, Check::Limits),
    (libc::SYS_socket, Check::Socket),
    (libc::SYS_socketpair, Check::Socket),
];

const fn errno(number: libc::c_int) -> u32 {
    SECCOMP_RET_ERRNO | number as u32
}

const DENY: u32 = errno(libc::EPERM);
const UNKNOWN: u32 = errno(libc::ENOSYS);
/// Answered like a file system that has no such request.
const NO_REQUEST: u32 = errno(libc::ENOTTY);
/// Answered like a kernel without the family: programs look for that and go on.
const NO_FAMILY: u32 = errno(libc::EAFNOSUPPORT);

/// The compiled filter.
#[derive(Debug)]
pub(crate) struct Filter(Vec<Instruction>);

impl Filter {
    /// Compiles the table.
    pub(crate) fn compile() -> Self {
        let mut program = vec![
            load_word(ARCH),
            if_equal(ARCHITECTURE, 1, 0),
            answer(SECCOMP_RET_KILL_PROCESS),
            load_word(NUMBER),
        ];
        search(&ranges(&verdicts()), &mut program);
        Self(program)
    }

    /// Puts it on this process.
    pub(crate) fn load(&self) -> io::Result<()> {
        seccomp::load(&self.0)
    }
}

/// What each call of the table gets.
fn verdicts() -> BTreeMap<u32, Verdict> {
    let numbers = |lines: &'static [table::Line]| {
        let each = lines.iter().flat_map(|(numbers, _)| numbers.iter());
        each.map(|&number| number as u32)
    };
    let allowed = [table::ALLOWED, table::OF_THE_ARCHITECTURE];
    let allowed = allowed.into_iter().flat_map(numbers);
    let mut all: BTreeMap<u32, Verdict> = allowed.map(|n| (n, Verdict::Allow)).collect();
    all.extend(numbers(table::DENIED).map(|n| (n, Verdict::Deny)));
    all.extend(CHECKED.map(|(n, check)| (n as u32, Verdict::Look(check))));
    all
}

/// Where each run of calls with the same verdict begins; the first begins at 0, and there is no end.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<(u32, Verdict)> {
    let mut ranges = vec![(0, Verdict::Unknown)];
    let mut push = |start, verdict| {
        ranges.pop_if(|last| last.0 == start);
        if ranges.last().is_none_or(|last| last.1 != verdict) {
            ranges.push((start, verdict));
        }
    };
    for (&number, &verdict) in verdicts.range(..FOREIGN) {
        push(number, verdict);
        push(number + 1, Verdict::Unknown);
    }
    ranges
}

/// Halves the ranges until one is left.
fn search(ranges: &[(u32, Verdict)], program: &mut Vec<Instruction>) {
    if let [(_, verdict)] = ranges {
        return program.extend(leaf(*verdict));
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let mut below = Vec::new();
    search(low, &mut below);
    program.push(if_at_least(high[0].0, 0, 1));
    program.push(skip(below.len() as u32));
    program.append(&mut below);
    search(high, program);
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![answer(SECCOMP_RET_ALLOW)],
        Verdict::Deny => vec![answer(DENY)],
        Verdict::Unknown => vec![answer(UNKNOWN)],
        Verdict::Look(Check::Clone) => vec![
            load_word(argument(0)),
            if_any_bit(NAMESPACES, 0, 1),
            answer(DENY),
            answer(SECCOMP_RET_ALLOW),
        ],
        Verdict::Look(Check::Ioctl) => {
            let mut code = one_of(1, &TERMINAL_INPUT, DENY, SECCOMP_RET_ALLOW);
            code.pop();
            code.extend(one_of(1, &SHARE_BLOCKS, SECCOMP_RET_ALLOW, NO_REQUEST));
            code.pop();
            code.push(keep_bits(TYPE));
            code.push(if_equal(BTRFS, 0, 1));
            code.push(answer(NO_REQUEST));
            code.push(answer(SECCOMP_RET_ALLOW));
            code
        }
        Verdict::Look(Check::Limits) => one_of(0, &[OWN], SECCOMP_RET_ALLOW, DENY),
        Verdict::Look(Check::Personality) => one_of(0, &PERSONALITIES, SECCOMP_RET_ALLOW, DENY),
        Verdict::Look(Check::Socket) => {
            let mut code = one_of(0, &FAMILIES, SECCOMP_RET_ALLOW, NO_FAMILY);
            code.pop();
            code.push(if_equal(libc::AF_NETLINK as u32, 1, 0));
            code.push(answer(NO_FAMILY));
            let route = [libc::NETLINK_ROUTE as u32];
            code.extend(one_of(2, &route, SECCOMP_RET_ALLOW, NO_FAMILY));
            code
        }
    }
}

/// One answer if an argument is among the values, else another.
fn one_of(index: u32, values: &[u32], hit: u32, miss: u32) -> Vec<Instruction> {
    let mut code = vec![load_word(argument(index))];
    for &value in values {
        code.push(if_equal(value, 0, 1));
        code.push(answer(hit));
    }
    code.push(answer(miss));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], arch: u32, number: u32, arguments: [u32; 6]) -> u32 {
        let word_at = |offset: u32| match offset {
            NUMBER => number,
            ARCH => arch,
            _ => arguments[(0..6).find(|&i| argument(i) == offset).unwrap() as usize],
        };
        let (mut at, mut word) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let mut branch = |is_true: bool| at += usize::from(if is_true { jt } else { jf });
            match u32::from(code) {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => word = word_at(k),
                c if c == libc::BPF_ALU | libc::BPF_AND => word &= k,
                c if c == libc::BPF_JMP | libc::BPF_JEQ => branch(word == k),
                c if c == libc::BPF_JMP | libc::BPF_JGE => branch(word >= k),
                c if c == libc::BPF_JMP | libc::BPF_JSET => branch(word & k != 0),
                c if c == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
                c if c == libc::BPF_RET => return k,
                c => panic!("instruction {c:#x}"),
            }
        }
    }

    fn answer_to(number: i64, arguments: [u32; 6]) -> u32 {
        run(&Filter::compile().0, ARCHITECTURE, number as u32, arguments)
    }

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
    fn every_number_gets_what_the_table_says() {
        let (program, verdicts) = (Filter::compile().0, verdicts());
        assert!(program.len() < 4096, "too long for the kernel");
        for number in (0..2000).chain([FOREIGN, FOREIGN + 1, FOREIGN + 512, u32::MAX]) {
            let want = match verdicts.get(&number).unwrap_or(&Verdict::Unknown) {
                Verdict::Allow => SECCOMP_RET_ALLOW,
                Verdict::Deny => DENY,
                Verdict::Unknown => UNKNOWN,
                Verdict::Look(_) => continue,
            };
            assert_eq!(
                run(&program, ARCHITECTURE, number, [0; 6]),
                want,
                "{number}"
            );
        }
    }

    #[test]
    fn another_architecture_is_the_end() {
        let program = Filter::compile().0;
        let i386 = 0x4000_0003;
        assert_eq!(run(&program, i386, 1, [0; 6]), SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn arguments_decide_where_they_must() {
        let first = |value: libc::c_int| [value as u32, 0, 0, 0, 0, 0];
        let thread = libc::CLONE_VM | libc::CLONE_THREAD;
        let socket = |family: libc::c_int, protocol: libc::c_int| {
            let arguments = [family as u32, 0, protocol as u32, 0, 0, 0];
            answer_to(libc::SYS_socket, arguments)
        };
        assert_eq!(answer_to(libc::SYS_clone, first(thread)), SECCOMP_RET_ALLOW);
        for bit in [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
        ] {
            assert_eq!(answer_to(libc::SYS_clone, first(thread | bit)), DENY);
        }
        for request in TERMINAL_INPUT {
            assert_eq!(answer_to(libc::SYS_ioctl, [0, request, 0, 0, 0, 0]), DENY);
        }
        for request in SHARE_BLOCKS.into_iter().chain([0, libc::TCGETS as u32]) {
            let answer = answer_to(libc::SYS_ioctl, [0, request, 0, 0, 0, 0]);
            assert_eq!(answer, SECCOMP_RET_ALLOW, "{request:#x}");
        }
        let (make_subvolume, snapshot) = (0x5000_940e, 0x5000_9417);
        for request in [make_subvolume, snapshot] {
            let answer = answer_to(libc::SYS_ioctl, [0, request, 0, 0, 0, 0]);
            assert_eq!(answer, NO_REQUEST, "{request:#x}");
        }
        assert_eq!(
            answer_to(libc::SYS_personality, first(-1)),
            SECCOMP_RET_ALLOW
        );
        assert_eq!(answer_to(libc::SYS_personality, first(8)), DENY);
        assert_eq!(answer_to(libc::SYS_prlimit64, [0; 6]), SECCOMP_RET_ALLOW);
        assert_eq!(answer_to(libc::SYS_prlimit64, first(1)), DENY);
        assert_eq!(socket(libc::AF_UNIX, 0), SECCOMP_RET_ALLOW);
        assert_eq!(
            socket(libc::AF_NETLINK, libc::NETLINK_ROUTE),
            SECCOMP_RET_ALLOW
        );
        assert_eq!(socket(libc::AF_NETLINK, libc::NETLINK_AUDIT), NO_FAMILY);
        for family in [
            libc::AF_PACKET,
            libc::AF_VSOCK,
            libc::AF_ALG,
            libc::AF_BLUETOOTH,
        ] {
            assert_eq!(socket(family, 0), NO_FAMILY, "{family}");
        }
    }
}
