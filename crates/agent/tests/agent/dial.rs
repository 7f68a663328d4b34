//! Connections to programs that listen on the loopback.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};

use bytes::Bytes;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::*;

use crate::node::{Agent, Node, PATIENCE};

const REFUSED: i32 = 111;

/// A program that listens, as the test plays it.
fn listener() -> (TcpListener, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port.into())
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Node {
    fn dial(&mut self, port: u32) -> u64 {
        let id = self.ask(Call::Dial(Dial { port }));
        assert!(matches!(self.reply(id), Reply::Done(_)));
        id
    }

    fn say(&mut self, id: u64, data: &[u8], eof: bool) {
        let data = Bytes::copy_from_slice(data);
        self.send(To::Data(Data { id, data, eof }));
    }
}

fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).unwrap();
    read
}

fn rest(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(|_| rest)
}

#[test]
fn both_directions_end_by_themselves() {
    let agent = Agent::start();
    let mut node = agent.node();
    let (listener, port) = listener();
    let id = node.dial(port);
    let mut program = accept(&listener);
    node.say(id, b"question", false);
    node.say(id, b"", true);
    assert_eq!(rest(&mut program).unwrap(), b"question");
    program.write_all(b"answer").unwrap();
    drop(program);
    assert_eq!(node.body(id), b"answer");
    // Nothing is left of it: the same id is free again, and what comes late is nobody's.
    node.say(id, b"late", false);
    let first_end = node.dial(port);
    let mut program = accept(&listener);
    program.shutdown(Shutdown::Write).unwrap();
    assert_eq!(node.body(first_end), b"");
    node.say(first_end, b"still heard", true);
    assert_eq!(rest(&mut program).unwrap(), b"still heard");
}

#[test]
fn a_closed_port_is_refused_and_ipv6_is_tried() {
    let agent = Agent::start();
    let mut node = agent.node();
    let (closed, port) = listener();
    drop(closed);
    for port in [port, 0, 65_536, u32::MAX] {
        let Reply::Failed(failed) = node.call(Call::Dial(Dial { port })) else {
            panic!("port {port} answers");
        };
        assert!(port != u32::from(port as u16) || port == 0 || failed.errno == REFUSED);
    }
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    node.dial(port.into());
    accept(&listener);
}

#[test]
fn much_goes_both_ways_and_a_program_that_does_not_read_costs_a_window() {
    let agent = Agent::start();
    let mut node = agent.node();
    let (listener, port) = listener();
    let id = node.dial(port);
    let mut program = accept(&listener);
    let sent: Vec<u8> = (0..8 * 1024 * 1024_u32).map(|n| (n / 7) as u8).collect();
    let mut echo = program.try_clone().unwrap();
    let echoing = std::thread::spawn(move || {
        std::io::copy(&mut echo, &mut program).unwrap();
        program.shutdown(Shutdown::Write).unwrap();
    });
    let mut taken = 0;
    for piece in sent.chunks(DIAL_WINDOW_BYTES as usize / 2) {
        taken += u64::from(dial_cost(piece.len()));
        node.until("credit", |node| {
            let credit = node.credit.get(&id).copied().unwrap_or(0);
            taken <= u64::from(DIAL_WINDOW_BYTES) + credit
        });
        node.say(id, piece, false);
    }
    node.until("room for the end", |node| {
        let credit = node.credit.get(&id).copied().unwrap_or(0);
        taken + u64::from(dial_cost(0)) <= u64::from(DIAL_WINDOW_BYTES) + credit
    });
    node.say(id, b"", true);
    assert!(node.body(id) == sent, "what came back is not what was sent");
    echoing.join().unwrap();
    assert!(agent.memory("Rss") < 6 * 1024, "{}", agent.memory("Rss"));
}

#[test]
fn whatever_breaks_off_is_a_reset() {
    let agent = Agent::start();
    let mut node = agent.node();
    let (listener, port) = listener();
    let cancelled = node.dial(port);
    let mut program = accept(&listener);
    node.say(cancelled, b"begun", false);
    assert_eq!(read(&mut program, 5), b"begun");
    node.send(To::Cancel(Cancel { id: cancelled }));
    rest(&mut program).unwrap_err();
    // A program that breaks off is told of.
    let broken = node.dial(port);
    let program = accept(&listener);
    node.say(broken, b"not read", false);
    program.peek(&mut [0]).unwrap();
    drop(program);
    let failed = |node: &Node| matches!(node.replies[&broken].last(), Some(Reply::Failed(_)));
    node.until("the break", failed);
    // None outlives its link.
    node.dial(port);
    let mut program = accept(&listener);
    node.reconnect();
    rest(&mut program).unwrap_err();
}

#[test]
fn more_than_the_window_breaks_the_link() {
    let agent = Agent::start();
    let mut node = agent.node();
    let (listener, port) = listener();
    let id = node.dial(port);
    let _not_reading = accept(&listener);
    // Small pieces count as well.
    let piece = vec![0; 64 * 1024];
    for _ in 0..1024 {
        let data = Bytes::copy_from_slice(&piece);
        let mut wire = bytes::BytesMut::new();
        let body = Some(To::Data(Data {
            id,
            data,
            eof: false,
        }));
        skerry_proto::frame::encode(&ToAgent { body }, &mut wire);
        if node.stream.write_all(&wire).is_err() {
            break;
        }
    }
    let mut buffer = [0; 4096];
    while node.stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    node.reconnect();
    node.dial(port);
}
