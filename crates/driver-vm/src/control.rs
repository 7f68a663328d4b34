//! Asking the guest's first process.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use skerry_driver::DriverError;
use skerry_proto::frame;
use skerry_proto::guest::{Call, Reply, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::record::{Place, Socket};

/// Puts one request and waits for its answer. QEMU takes one asker at a time; the next waits in line.
pub(crate) async fn ask(
    place: &Place,
    call: Call,
    patience: Duration,
) -> Result<Reply, DriverError> {
    let exchange = exchange(place, call);
    match timeout(patience, exchange).await {
        Ok(Ok(Reply::Failed(why))) => {
            let error = io::Error::other(format!("the guest says: {why}"));
            Err(DriverError::step("ask the guest")(error))
        }
        Ok(answer) => answer.map_err(DriverError::step("ask the guest")),
        Err(_) => Err(DriverError::TooSlow(patience.as_secs())),
    }
}

async fn exchange(place: &Place, call: Call) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(place.path(Socket::Control)).await?;
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
