//! Links to the agent over one port: each begins at its mark, and ends the one before.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use skerry_proto::guest::MARK_BYTES;

use crate::port::Port;

/// What is carried at once.
const CHUNK_BYTES: usize = 64 * 1024;

type Mark = [u8; MARK_BYTES];

/// The link of now.
#[derive(Debug, Clone)]
struct Current {
    mark: Mark,
    agent: Arc<UnixStream>,
    /// The host's mark was heard, so it is this link's host that hears us, and not the one before.
    heard: bool,
}

#[derive(Debug)]
struct Shared {
    port: Port,
    current: Mutex<Option<Current>>,
    changed: Condvar,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Links(Arc<Shared>);

impl Links {
    /// Starts to carry.
    pub(crate) fn new(port: Port) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            port,
            current: Mutex::default(),
            changed: Condvar::new(),
        });
        let (inward, outward) = (Arc::clone(&shared), Arc::clone(&shared));
        thread::Builder::new()
            .name("inward".to_owned())
            .spawn(move || carry_in(&inward))?;
        thread::Builder::new()
            .name("outward".to_owned())
            .spawn(move || carry_out(&outward))?;
        Ok(Self(shared))
    }

    /// From the mark on, what comes is for this agent.
    pub(crate) fn begin(&self, mark: Mark, agent: UnixStream) {
        let agent = Arc::new(agent);
        let earlier = self.0.current.lock().replace(Current {
            mark,
            agent,
            heard: false,
        });
        if let Some(earlier) = earlier {
            // It may be gone already.
            let _ended: io::Result<()> = earlier.agent.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn now(&self) -> Option<Current> {
        self.current.lock().clone()
    }

    fn is_now(&self, mark: &Mark) -> bool {
        (self.current.lock().as_ref()).is_some_and(|current| current.mark == *mark)
    }

    /// The host of the link with this mark is there.
    fn hear(&self, mark: &Mark) {
        if let Some(current) = self.current.lock().as_mut()
            && current.mark == *mark
        {
            current.heard = true;
        }
        self.changed.notify_all();
    }

    /// The link after the one with this mark, once its host is there.
    fn after(&self, earlier: Option<Mark>) -> Current {
        let mut current = self.current.lock();
        loop {
            match current.as_ref() {
                Some(next) if next.heard && Some(next.mark) != earlier => return next.clone(),
                _ => self.changed.wait(&mut current),
            }
        }
    }
}

/// From the port to the agent.
fn carry_in(shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut begun: Option<Mark> = None;
    // The last bytes, in which a mark may have begun.
    let mut tail = Vec::new();
    loop {
        let len = shared.port.read(&mut buffer)?;
        let Some(current) = shared.now() else {
            continue;
        };
        if begun == Some(current.mark) {
            // An agent that ended its link takes no more of it.
            let _taken: io::Result<()> = (&*current.agent).write_all(&buffer[..len]);
            continue;
        }
        tail.extend_from_slice(&buffer[..len]);
        if let Some(at) = find(&tail, &current.mark) {
            begun = Some(current.mark);
            shared.hear(&current.mark);
            let _taken: io::Result<()> = (&*current.agent).write_all(&tail[at + MARK_BYTES..]);
            tail.clear();
        } else {
            let needless = tail.len().saturating_sub(MARK_BYTES - 1);
            tail.drain(..needless);
        }
    }
}

fn find(bytes: &[u8], mark: &Mark) -> Option<usize> {
    bytes.windows(MARK_BYTES).position(|window| window == mark)
}

/// From the agent to the port.
fn carry_out(shared: &Shared) -> io::Result<()> {
    let mut earlier = None;
    loop {
        let current = shared.after(earlier);
        shared.port.write(&current.mark)?;
        carry_link(shared, &current)?;
        earlier = Some(current.mark);
    }
}

fn carry_link(shared: &Shared, current: &Current) -> io::Result<()> {
    const LENGTH: usize = 4;
    let mut chunk = vec![0; LENGTH + CHUNK_BYTES];
    loop {
        // A broken link has ended.
        let len = (&*current.agent).read(&mut chunk[LENGTH..]).unwrap_or(0);
        if !shared.is_now(&current.mark) {
            return Ok(());
        }
        chunk[..LENGTH].copy_from_slice(&(len as u32).to_le_bytes());
        shared.port.write(&chunk[..LENGTH + len])?;
        if len == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_it_is() {
        let mark = [7; MARK_BYTES];
        let mut bytes = vec![7; 5];
        bytes.push(1);
        bytes.extend_from_slice(&mark);
        bytes.push(2);
        assert_eq!(find(&bytes, &mark), Some(6));
        assert_eq!(find(&bytes[..6 + MARK_BYTES - 1], &mark), None);
    }
}
