//! What listens inside is reached through the agent, with any network and none.

use skerry_proto::agent::{Call, Dial, Reply};

use super::agent::{Agent, python};
use super::failure::{Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, checks};
use crate::{Capabilities, Isolation};

pub(super) const CHECKS: &[Check] = checks! {
    "ports: bytes pass both ways, and each way ends by itself", has_programs => echo;
    "ports: many connections at once do not mix", has_programs => many;
    "ports: where nobody listens is said", has_programs => closed;
};

const PORT: u32 = 8080;
const CONNECTIONS: usize = 100;
/// Many times what any buffer on the way holds.
const BYTES: u32 = 8 * 1024 * 1024;

/// Says everything back, and its last when the other side has.
const ECHO: &str = "
import socket, threading
def echo(stream):
    while data := stream.recv(1 << 16):
        stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)
server = socket.create_server(('127.0.0.1', 8080), backlog=128)
print('ready', flush=True)
while True:
    threading.Thread(target=echo, args=(server.accept()[0],)).start()
";

fn has_programs(capabilities: &Capabilities) -> bool {
    capabilities.isolation != Isolation::None
}

async fn listening(ground: &Ground<'_>) -> Verdict<Agent> {
    let mut agent = ground.create(&ground.spec()).await?;
    let running = agent.start(python(ECHO)).await?;
    agent.until_out(&running, "ready\n".len()).await?;
    Ok(agent)
}

async fn echo(ground: Ground<'_>) -> Verdict {
    let mut agent = listening(&ground).await?;
    let sent: Vec<u8> = (0..BYTES / 4).flat_map(u32::to_le_bytes).collect();
    let id = agent.dial(PORT).await?;
    let heard = agent.converse(id, &sent).await?;
    ensure!(
        heard == sent,
        "{} bytes came back of {}, or others",
        heard.len(),
        sent.len()
    );
    Ok(())
}

async fn many(ground: Ground<'_>) -> Verdict {
    let mut agent = listening(&ground).await?;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(agent.dial(PORT).await?);
    }
    for id in open {
        let own = format!("connection {id}");
        let heard = agent.converse(id, own.as_bytes()).await?;
        same("what came back", heard, own.into_bytes())?;
    }
    Ok(())
}

async fn closed(ground: Ground<'_>) -> Verdict {
    let mut agent = ground.create(&ground.spec()).await?;
    let answer = agent.call(Call::Dial(Dial { port: PORT })).await?;
    ensure!(
        matches!(&answer, Reply::Failed(failed) if failed.errno == 111),
        "dialled where nobody listens: {answer:?}"
    );
    Ok(())
}
