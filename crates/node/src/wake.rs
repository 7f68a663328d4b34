//! The first words with an agent: waking a copy, in which what it must not share is made new before the first of its processes runs, and warming up
//! what stands ready.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use rand::TryRngCore;
use skerry_driver::{AgentLink, Driver, DriverError, Instance, Isolation, Spec};
use skerry_proto::agent::{
    Call, Health, NodeHello, Release, Renew, Reply, Request, ToAgent, from_agent, to_agent,
};
use skerry_proto::{agent::GENERATION, frame};
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// For the agent of a copy to answer.
const PATIENCE: Duration = Duration::from_secs(20);
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
    let renew = Some(renew(driver, spec)?);
    ask(driver, spec.id, Call::Release(Release { renew })).await
}

/// Has an agent answer once: the next answer comes faster, since all that it takes is in memory.
pub(crate) async fn warm_up(driver: &dyn Driver, place: SandboxId) -> Result<(), DriverError> {
    ask(driver, place, Call::Health(Health {})).await
}

/// Asks over a link of its own, while nobody else has one.
async fn ask(driver: &dyn Driver, place: SandboxId, call: Call) -> Result<(), DriverError> {
    let asked = async {
        let mut link = driver.connect(place).await?;
        send(&mut link, call).await?;
        answer(&mut link).await
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok(Some(Reply::Done(_)))) => Ok(()),
        Ok(Ok(Some(Reply::Failed(failed)))) => Err(unable(failed.message)),
        Ok(Ok(_)) => Err(unable("the agent answered something else".to_owned())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(DriverError::TooSlow(PATIENCE.as_secs())),
    }
}

async fn send(link: &mut AgentLink, call: Call) -> Result<(), DriverError> {
    let hello = to_agent::Body::Hello(NodeHello {
        generation: GENERATION,
    });
    let request = to_agent::Body::Request(Request {
        id: REQUEST,
        call: Some(call),
    });
    let mut output = BytesMut::new();
    for body in [hello, request] {
        frame::encode(&ToAgent { body: Some(body) }, &mut output);
    }
    let sent = link.write_all(&output).await;
    sent.map_err(DriverError::step("ask its agent"))
}

fn unable(why: String) -> DriverError {
    DriverError::step("have its agent answer")(why)
}

/// The host's kernel sees to its own clock and random numbers; a guest's kernel was copied with them.
pub(crate) fn renew(driver: &dyn Driver, spec: &Spec) -> Result<Renew, DriverError> {
    let own_kernel = driver.capabilities().isolation == Isolation::Vm;
    let mut entropy = [0; ENTROPY];
    rand::rngs::OsRng
        .try_fill_bytes(&mut entropy)
        .map_err(DriverError::step("get random bytes"))?;
    let now = || i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
    Ok(Renew {
        wall_clock_ns: if own_kernel { now() } else { 0 },
        entropy: Bytes::copy_from_slice(&entropy),
        hostname: spec.hostname.clone(),
    })
}

async fn answer(link: &mut AgentLink) -> Result<Option<Reply>, DriverError> {
    let mut input = BytesMut::new();
    loop {
        let message = frame::decode_from_agent(&mut input);
        let message = message.map_err(DriverError::step("hear its agent"))?;
        match message.and_then(|message| message.body) {
            Some(from_agent::Body::Response(response)) if response.id == REQUEST => {
                return Ok(response.reply);
            }
            Some(_) => continue,
            None => {}
        }
        let read = link.read_buf(&mut input).await;
        if read.map_err(DriverError::step("hear its agent"))? == 0 {
            return Err(unable("the agent closed the link".to_owned()));
        }
    }
}
