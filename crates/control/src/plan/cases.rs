//! Plans as scripts: a world in words, times as seconds, and what is to be done at them.

use skerry_store::OnTimeout;
use skerry_types::{NodeId, SandboxId, SandboxState};
use uuid::Uuid;

use super::*;

/// `node` and `box` lines build a world; `at N` plans; what follows is the plan, one action a line, then when to wake.
const SCRIPT: &str = "
    node 1 slots=2
    box 1 running node=1
    box 2 queued queue=100
    box 3 queued queue=50
    at 10
      start 1
      wake 50
    at 50
      start 1
      fail 3 queue_timeout
      wake 100

    node 1 slots=1 silent=0
    box 1 queued queue=20
    at 19
      wake 20
    at 20
      fail 1 capacity_timeout

    node 1 slots=9
    box 1 running node=1 expires=100
    at 39
      wake 40
    at 40
      warn 1 60
      wake 100
    at 97
      warn 1 3
      wake 100
    at 100
      end 1 stop ttl_exceeded

    node 1 slots=9
    box 1 running node=1 expires=100 warned on=delete
    box 2 paused node=1 expires=100 on=pause
    box 3 paused node=1 expires=100 on=stop
    box 4 running node=1 expires=100 busy
    box 5 running node=1 expires=100 retry=120
    box 6 paused node=1 expires=100 on=delete keep
    at 100
      end 1 delete ttl_exceeded
      end 3 stop ttl_exceeded
      wake 120

    node 1 slots=9
    box 1 running node=1 idle=30 active=50 looked=0
    box 2 running node=1 idle=30 active=50 looked=80 on=pause
    box 3 paused node=1 idle=30 active=0 looked=80
    box 4 running node=1 expires=80 warned on=delete on_idle=pause
    box 5 running node=1 idle=30 active=50 looked=80 on=delete on_idle=pause
    box 6 paused node=1 expires=80 warned on=stop on_idle=pause
    at 79
      wake 80
    at 80
      look 1
      end 2 pause idle_timeout
      end 4 delete ttl_exceeded
      end 5 pause idle_timeout
      end 6 stop ttl_exceeded

    node 1 slots=9
    box 1 stopping node=1 since=10
    box 2 provisioning node=1 since=10
    box 3 provisioning node=1 since=0 busy
    at 39
      wake 40
    at 40
      kill 1
      kill 2

    node 1 slots=9 silent=100
    box 1 running node=1 expires=0
    box 2 missing node=1
    at 129
      wake 130
    at 130
      lose 1
      wake 400
    at 400
      lose 1
      fail 2 node_lost
";

#[test]
fn scripts_lead_to_their_plans() {
    let (mut snapshot, mut told, mut now) = (empty(), String::new(), None);
    let mut checked = 0;
    for line in SCRIPT.lines().chain(["end"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let expected =
            matches!(words.first(), Some(w) if *w != "at" && *w != "node" && *w != "box");
        if expected && words != ["end"] {
            told += &(words.join(" ") + "\n");
            continue;
        }
        if let Some(at) = now.take() {
            assert_eq!(shown(&plan(&snapshot, time(at))), told, "at {at}");
            checked += 1;
        }
        told.clear();
        match words.as_slice() {
            ["at", at] => now = Some(at.parse::<i64>().unwrap()),
            ["node", id, rest @ ..] => snapshot.nodes.push(node(id, rest)),
            ["box", id, rest @ ..] => snapshot.sandboxes.push(sandbox(id, rest)),
            _ => snapshot = empty(),
        }
    }
    assert_eq!(checked, 16);
}

fn empty() -> Snapshot {
    Snapshot {
        sandboxes: Vec::new(),
        nodes: Vec::new(),
        missing_after: SignedDuration::from_secs(30),
        lost_after: SignedDuration::from_secs(300),
        provision_timeout: SignedDuration::from_secs(30),
        stop_timeout: SignedDuration::from_secs(30),
        clean_at: Timestamp::MAX,
    }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn node_id(n: &str) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(n.parse().unwrap()))
}

/// The value of `name=value` among these words.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
}

fn seconds(words: &[&str], name: &str) -> Option<i64> {
    value(words, name).map(|n| n.parse().unwrap())
}

fn node(id: &str, words: &[&str]) -> SeenNode {
    SeenNode {
        id: node_id(id),
        slots: value(words, "slots").unwrap().parse().unwrap(),
        silent_since: seconds(words, "silent").map(time),
    }
}

fn sandbox(id: &str, words: &[&str]) -> Seen {
    let at = |name| seconds(words, name).map(time);
    let on = |name| value(words, name).map(|on| OnTimeout::from_name(on).unwrap());
    let on_timeout = on("on").unwrap_or(OnTimeout::Stop);
    Seen {
        id: SandboxId::from_uuid(Uuid::from_u128(id.parse().unwrap())),
        state: SandboxState::from_name(words[0]).unwrap(),
        since: at("since").unwrap_or(time(0)),
        node: value(words, "node").map(node_id),
        queue_until: at("queue").unwrap_or(Timestamp::MAX),
        expires_at: at("expires"),
        warned: words.contains(&"warned"),
        idle: seconds(words, "idle").map(SignedDuration::from_secs),
        last_active_at: at("active").unwrap_or(time(0)),
        looked_at: at("looked").unwrap_or(time(0)),
        on_timeout,
        on_idle: on("on_idle").unwrap_or(on_timeout),
        keep_paused: words.contains(&"keep"),
        busy: words.contains(&"busy"),
        retry_at: at("retry"),
    }
}

fn shown(plan: &Plan) -> String {
    let id = |id: &SandboxId| id.uuid().as_u128();
    let action = |action: &Action| match action {
        Action::Start(node) => format!("start {}\n", node.uuid().as_u128()),
        Action::Fail(s, why) => format!("fail {} {}\n", id(s), why.as_str()),
        Action::Warn(s, left) => format!("warn {} {left}\n", id(s)),
        Action::Look(s) => format!("look {}\n", id(s)),
        Action::End(s, on, why) => format!("end {} {} {}\n", id(s), on.as_str(), why.as_str()),
        Action::Kill(s) => format!("kill {}\n", id(s)),
        Action::Lose(s) => format!("lose {}\n", id(s)),
        Action::Clean => "clean\n".to_owned(),
    };
    let wake = plan
        .wake_at
        .filter(|at| *at < Timestamp::MAX)
        .map_or(String::new(), |at| format!("wake {}\n", at.as_second()));
    plan.actions.iter().map(action).collect::<String>() + &wake
}
