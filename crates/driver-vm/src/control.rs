//! Asking the guest's first process.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use skerry_driver::DriverError;
use skerry_proto::frame;
use skerry_proto::guest::{Call, Reply, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::at;
use crate::record::{Place, Socket};

/// Puts one request and waits for its answer. QEMU takes one asker at a time; the next waits in line. So this is a task of its own, which comes to its
/// end also while the caller does something else first.
pub(crate) async fn ask(
    place: &Place,
    call: Call,
    patience: Duration,
) -> Result<Reply, DriverError> {
    let exchange = exchange(place.share().map_err(at("share the record"))?, call);
    // Who goes away leaves the line.
    let mut asking = JoinSet::new();
    asking.spawn(timeout(patience, exchange));
    let answer = match asking.join_next().await {
        Some(Ok(Ok(answer))) => answer,
        Some(Err(lost)) => Err(io::Error::other(lost)),
        Some(Ok(Err(_))) | None => return Err(DriverError::TooSlow(patience.as_secs())),
    };
    let answer = match answer {
        Ok(Reply::Failed(why)) => Err(io::Error::other(format!("the guest says: {why}"))),
        answer => answer,
    };
    answer.map_err(DriverError::step("ask the guest"))
}

async fn exchange(place: Place, call: Call) -> io::Result<Reply> {
    let mut stream = place.connect(Socket::Control).await?;
    let id = rand::random();
    let mut out = BytesMut::new();
    let call = Some(call);
    frame::encode(&Request { id, call }, &mut out);
    stream.write_all(&out).await?;
    let mut input = BytesMut::new();
    loop {
        let response = frame::decode::<Response>(&mut input).map_err(io::Error::other)?;
        match response {
            Some(response) if response.id == id => {
                return response
                    .reply
                    .ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            // For somebody before us.
            Some(_) => {}
            None => {
                if stream.read_buf(&mut input).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use skerry_proto::guest::{Done, Ping};
    use tokio::net::{UnixListener, UnixSocket};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    /// A line that is served as QEMU and a guest do it: whoever comes next is heard when the one before has gone.
    async fn serve(line: UnixListener) {
        loop {
            let (mut asker, _) = line.accept().await.unwrap();
            let mut input = BytesMut::new();
            while asker.read_buf(&mut input).await.unwrap_or(0) > 0 {
                while let Ok(Some(Request { id, .. })) = frame::decode(&mut input) {
                    let mut out = BytesMut::new();
                    let reply = Some(Reply::Done(Done {}));
                    frame::encode(&Response { id, reply }, &mut out);
                    asker.write_all(&out).await.unwrap();
                }
            }
        }
    }

    #[tokio::test]
    async fn where_the_line_is_full_the_rest_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place(File::open(folder.path()).unwrap());
        let line = UnixSocket::new_stream().unwrap();
        line.bind(place.path(Socket::Control)).unwrap();
        // As QEMU has it.
        let line = line.listen(1).unwrap();
        let ping = || ask(&place, Call::Ping(Ping {}), LONG);
        let mut all: Vec<_> = (0..8).map(|_| Box::pin(ping())).collect();
        for one in &mut all {
            let begun = poll_fn(|context| Poll::Ready(one.as_mut().poll(context)));
            assert!(begun.await.is_pending());
        }
        tokio::spawn(serve(line));
        for one in all {
            one.await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_asked_and_does_something_else_first_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place(File::open(folder.path()).unwrap());
        let line = UnixListener::bind(place.path(Socket::Control)).unwrap();
        tokio::spawn(serve(line));
        let ping = || ask(&place, Call::Ping(Ping {}), LONG);
        let mut first = pin!(ping());
        let begun = poll_fn(|context| Poll::Ready(first.as_mut().poll(context)));
        assert!(begun.await.is_pending());
        ping().await.unwrap();
        first.await.unwrap();
    }
}
