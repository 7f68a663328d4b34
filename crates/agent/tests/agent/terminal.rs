//! Commands on terminals.

use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::*;

use crate::node::*;

fn on_terminal(script: &str) -> ExecStart {
    let tty = Some(TtySize { cols: 80, rows: 24 });
    ExecStart { tty, ..sh(script) }
}

#[test]
fn it_has_a_size_that_changes_and_is_its_own() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(on_terminal(
        "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.01; done",
    ));
    node.until_out(&id, "ready");
    let size = TtySize {
        cols: 100,
        rows: 50,
    };
    node.send(To::ExecResize(ExecResize {
        exec_id: id.clone(),
        size,
    }));
    let seen = node.finish(&id);
    assert!(
        seen.out().starts_with("24 80\r\n") && seen.out().ends_with("50 100\r\n"),
        "{seen:?}"
    );
    assert_eq!(seen.ended(), Ended::Code(5));
    let seen = node.run(ExecStart {
        user: "4242".into(),
        ..on_terminal("echo x > $(tty); stat -c %u $(tty)")
    });
    assert_eq!(seen.out(), "x\r\n4242\r\n");
}

#[test]
fn control_c_interrupts_what_stands_in_front() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(on_terminal(
        "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.01; done",
    ));
    node.until_out(&id, "ready");
    node.stdin(&id, 0, b"\x03", false);
    let seen = node.finish(&id);
    assert!(
        seen.out().contains("caught") && seen.ended() == Ended::Code(7),
        "{seen:?}"
    );
}

#[test]
fn all_that_was_written_arrives_and_who_is_left_hangs_up() {
    let agent = Agent::start();
    let mut node = agent.node();
    let seen = node.run(on_terminal(
        "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done",
    ));
    assert_eq!(seen.out().lines().count(), 5000);
    assert!(seen.out().ends_with("line 4999\r\n"));
    let seen = node.run(on_terminal("sleep 1000 & echo $!; exit 0"));
    let pid: u32 = seen.out().trim().parse().unwrap();
    let limit = std::time::Instant::now() + PATIENCE;
    while alive(pid) {
        assert!(std::time::Instant::now() < limit, "no hang-up");
        std::thread::yield_now();
    }
}
