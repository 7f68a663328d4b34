//! The first words with an agent: waking a copy, in which what it must not share is made new before the first of its processes runs, and warming up
//! what stands ready.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::TryRngCore;
use skerry_driver::{AgentLink, Driver, DriverError, Instance, Spec};
use skerry_proto::agent::{
    Call, ExecAck, ExecStart, NodeHello, Release, Renew, Reply, Request, ToAgent, from_agent,
    to_agent,
};
use skerry_proto::{agent::GENERATION, frame};
use skerry_types::{ExecId, SandboxId, SnapshotId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// For the agent of a copy to answer: it makes host keys, and gives each of them 20 s.
const PATIENCE: Duration = Duration::from_secs(90);
/// For a program that does nothing.
const WARM_UP_MS: u64 = 5000;
/// Needs what nearly every other program needs: a shell's files, and the C library.
const NOTHING: [&[u8]; 3] = [b"/bin/sh", b"-c", b":"];
/// Bytes of fresh randomness: for the kernel's pool, the machine id and the boot id.
const ENTROPY: usize = 64;
/// The only request on its link.
const REQUEST: u64 = 1;

/// Restores, and lets copied processes run once nothing of theirs is shared.
pub(crate) async fn restore(
    driver: &dyn Driver,
    from: SnapshotId,
    spec: &Spec,
    memory: bool,
) -> Result<Instance, DriverError> {
    let instance = driver.restore(from, spec).await?;
    if memory {
        wake(driver, spec).await?;
    }
    Ok(instance)
}

/// Has the agent of a restored sandbox make everything new and let its processes go on. On error they are still held.
pub(crate) async fn wake(driver: &dyn Driver, spec: &Spec) -> Result<(), DriverError> {
    let renew = Some(renew(spec)?);
    ask(driver, spec.id, Call::Release(Release { renew })).await
}

/// Has an agent run a program: the next one starts sooner, since all that it takes is in memory. How it ends, or that there is none, is no matter.
pub(crate) async fn warm_up(driver: &dyn Driver, place: SandboxId) -> Result<(), DriverError> {
    let exec_id = Bytes::copy_from_slice(&ExecId::new().bytes());
    let start = to_agent::Body::ExecStart(ExecStart {
        exec_id: exec_id.clone(),
        argv: NOTHING.map(Bytes::from_static).to_vec(),
        cwd: Bytes::from_static(b"/"),
        timeout_ms: WARM_UP_MS,
        ..ExecStart::default()
    });
    in_time(async {
        let mut link = driver.connect(place).await?;
        send(&mut link, [hello(), start]).await?;
        let seq = hear(&mut link, |body| match body {
            from_agent::Body::ExecEnded(ended) => Some(ended.seq),
            _ => None,
        });
        let seq = seq.await?;
        // With that nothing of it is left.
        send(
            &mut link,
            [to_agent::Body::ExecAck(ExecAck { exec_id, seq })],
        )
        .await
    })
    .await
}

/// Asks over a link of its own, while nobody else has one.
async fn ask(driver: &dyn Driver, place: SandboxId, call: Call) -> Result<(), DriverError> {
    let request = to_agent::Body::Request(Request {
        id: REQUEST,
        call: Some(call),
    });
    let reply = in_time(async {
        let mut link = driver.connect(place).await?;
        send(&mut link, [hello(), request]).await?;
        let reply = hear(&mut link, |body| match body {
            from_agent::Body::Response(response) if response.id == REQUEST => Some(response.reply),
            _ => None,
        });
        reply.await
    });
    match reply.await? {
        Some(Reply::Done(_)) => Ok(()),
        Some(Reply::Failed(failed)) => Err(unable(failed.message)),
        _ => Err(unable("the agent answered something else".to_owned())),
    }
}

async fn in_time<T>(talk: impl Future<Output = Result<T, DriverError>>) -> Result<T, DriverError> {
    let heard = timeout(PATIENCE, talk).await;
    heard.map_err(|_| DriverError::TooSlow(PATIENCE.as_secs()))?
}

fn hello() -> to_agent::Body {
    to_agent::Body::Hello(NodeHello {
        generation: GENERATION,
    })
}

async fn send(
    link: &mut AgentLink,
    bodies: impl IntoIterator<Item = to_agent::Body>,
) -> Result<(), DriverError> {
    let mut output = BytesMut::new();
    for body in bodies {
        frame::encode(&ToAgent { body: Some(body) }, &mut output);
    }
    let sent = link.write_all(&output).await;
    sent.map_err(DriverError::step("ask its agent"))
}

fn unable(why: String) -> DriverError {
    DriverError::step("have its agent answer")(why)
}

/// What a copy gets anew.
pub(crate) fn renew(spec: &Spec) -> Result<Renew, DriverError> {
    let mut entropy = [0; ENTROPY];
    rand::rngs::OsRng
        .try_fill_bytes(&mut entropy)
        .map_err(DriverError::step("get random bytes"))?;
    Ok(Renew {
        entropy: Bytes::copy_from_slice(&entropy),
        hostname: spec.hostname.clone(),
    })
}

/// Reads what the agent says until it is what is waited for.
async fn hear<T>(
    link: &mut AgentLink,
    awaited: impl Fn(from_agent::Body) -> Option<T>,
) -> Result<T, DriverError> {
    let mut input = BytesMut::new();
    loop {
        let message = frame::decode_from_agent(&mut input);
        let message = message.map_err(DriverError::step("hear its agent"))?;
        if let Some(message) = message {
            if let Some(heard) = message.body.and_then(&awaited) {
                return Ok(heard);
            }
            continue;
        }
        let read = link.read_buf(&mut input).await;
        if read.map_err(DriverError::step("hear its agent"))? == 0 {
            return Err(unable("the agent closed the link".to_owned()));
        }
    }
}
