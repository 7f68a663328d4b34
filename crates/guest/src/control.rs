//! Requests of the driver, one after the other.

use bytes::BytesMut;
use skerry_proto::frame;
use skerry_proto::guest::{Call, Done, Reply, Request, Response};

use crate::failure::Failure;
use crate::ground::Ground;
use crate::identity;
use crate::sandbox::Sandbox;

const BUFFER_BYTES: usize = 64 * 1024;

/// Answers for as long as the machine runs.
pub(crate) fn serve(ground: &Ground) -> Result<(), Failure> {
    let mut sandbox = None;
    let mut input = BytesMut::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = ground.control.read(&mut buffer);
        input.extend_from_slice(&buffer[..len.map_err(Failure::at("read a request"))?]);
        loop {
            match frame::decode::<Request>(&mut input) {
                Ok(Some(request)) => answer(ground, &mut sandbox, request)?,
                Ok(None) => break,
                // The rest of a request whose host died over it.
                Err(_) => input.clear(),
            }
        }
    }
}

fn answer(ground: &Ground, sandbox: &mut Option<Sandbox>, request: Request) -> Result<(), Failure> {
    let Some(call) = request.call else {
        return Ok(());
    };
    let reply = carry_out(ground, sandbox, call);
    let response = Response {
        id: request.id,
        reply: Some(reply.unwrap_or_else(|failure| Reply::Failed(failure.to_string()))),
    };
    let mut output = BytesMut::new();
    frame::encode(&response, &mut output);
    let written = ground.control.write(&output);
    written.map_err(Failure::at("answer a request"))
}

fn carry_out(ground: &Ground, sandbox: &mut Option<Sandbox>, call: Call) -> Result<Reply, Failure> {
    let done = Ok(Reply::Done(Done {}));
    let call = match call {
        Call::Ping(_) => return done,
        Call::Clock(clock) => return identity::shift_clock(clock.shift_ns).map(Reply::Time),
        Call::Start(start) => {
            if sandbox.is_some() {
                return Err(none("start a second sandbox"));
            }
            *sandbox = Some(Sandbox::start(ground, &start)?);
            return done;
        }
        call => call,
    };
    let sandbox = sandbox
        .as_ref()
        .ok_or_else(|| none("do this before the start"))?;
    match call {
        Call::Stats(_) => return sandbox.usage().map(Reply::Usage),
        Call::Link(link) => sandbox.link(&link)?,
        Call::Freeze(_) => sandbox.freeze()?,
        Call::Thaw(_) => sandbox.thaw()?,
        Call::Renew(identity) => sandbox.renew(&identity)?,
        Call::Ping(_) | Call::Start(_) | Call::Clock(_) => {}
    }
    done
}

fn none(what: &str) -> Failure {
    Failure::at(what)(std::io::Error::from(std::io::ErrorKind::InvalidInput))
}
