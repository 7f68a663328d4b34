//! The resolver of sandboxes: hands their questions to the host's name servers.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::control::Gateway;
use crate::message::{self, Question};
use crate::registry::Member;
use crate::relay::accept;
use crate::upstream;

/// Longest question over UDP; real ones are far shorter.
const MAX_QUESTION: usize = 4096;
/// How long a sandbox may take for its next question on one connection.
const NEXT_QUESTION: Duration = Duration::from_secs(10);

/// Answers at both sockets as long as the runtime lives.
pub(crate) fn start(
    gateway: &Arc<Gateway>,
    udp: StdUdpSocket,
    tcp: std::net::TcpListener,
) -> io::Result<()> {
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let udp = Arc::new(UdpSocket::from_std(udp)?);
    let tcp = TcpListener::from_std(tcp)?;
    tokio::spawn(serve_udp(Arc::clone(gateway), udp));
    tokio::spawn(serve_tcp(Arc::clone(gateway), tcp));
    Ok(())
}

async fn serve_udp(gateway: Arc<Gateway>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => gateway.datagram(&socket, &buffer[..length], peer),
            Err(error) => tracing::debug!(%error, "a reply to a lookup did not arrive"),
        }
    }
}

async fn serve_tcp(gateway: Arc<Gateway>, listener: TcpListener) {
    loop {
        let (stream, peer) = accept(&listener).await;
        if let Some(member) = gateway.member(peer.ip()) {
            tokio::spawn(Arc::clone(&gateway).stream(member, stream));
        }
    }
}

impl Gateway {
    /// Answers in the background; a question beyond the sandbox's share is lost like any datagram.
    fn datagram(self: &Arc<Self>, socket: &Arc<UdpSocket>, question: &[u8], peer: SocketAddr) {
        let Some(member) = self.member(peer.ip()) else {
            return;
        };
        let Ok(own) = Arc::clone(&member.slots).try_acquire_owned() else {
            return;
        };
        let Ok(shared) = Arc::clone(&self.lookups).try_acquire_owned() else {
            return;
        };
        let (gateway, socket, question) = (Arc::clone(self), Arc::clone(socket), question.to_vec());
        tokio::spawn(async move {
            let answer = gateway.answer_udp(question).await;
            if let Err(error) = send(&socket, answer, peer).await {
                tracing::debug!(%error, "cannot answer a lookup");
            }
            drop((own, shared));
        });
    }

    fn name_servers(&self) -> Arc<[SocketAddr]> {
        self.name_servers.read().clone()
    }

    async fn answer_udp(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        match Question::parse(bytes) {
            Ok(question) => {
                let answer = upstream::over_udp(&self.name_servers(), &question).await;
                Some(answer.unwrap_or_else(|_| question.failure()))
            }
            Err(malformed) => malformed.answer(),
        }
    }

    async fn stream(self: Arc<Self>, member: Arc<Member>, mut stream: TcpStream) {
        let (Ok(_own), Ok(_shared)) = (member.slots.try_acquire(), self.lookups.try_acquire())
        else {
            return;
        };
        tokio::select! {
            ended = self.answer_tcp(&mut stream) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection with lookups broke");
                }
            }
            () = member.gone.cancelled() => {}
        }
    }

    async fn answer_tcp(&self, stream: &mut TcpStream) -> io::Result<()> {
        while let Some(bytes) = next_question(stream).await? {
            let answer = match Question::parse(bytes) {
                Ok(question) => {
                    let answer = upstream::over_tcp(&self.name_servers(), &question).await;
                    answer.unwrap_or_else(|_| question.failure())
                }
                Err(malformed) => match malformed.answer() {
                    Some(answer) => answer,
                    None => return Ok(()),
                },
            };
            stream.write_all(&message::framed(&answer)).await?;
        }
        Ok(())
    }
}

async fn send(socket: &UdpSocket, answer: Option<Vec<u8>>, peer: SocketAddr) -> io::Result<()> {
    match answer {
        Some(answer) => socket.send_to(&answer, peer).await.map(drop),
        None => Ok(()),
    }
}

/// The next question of a connection; `None` at its end or when it is idle.
async fn next_question(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    match tokio::time::timeout(NEXT_QUESTION, read_frame(stream)).await {
        Ok(Ok(frame)) => Ok(Some(frame)),
        Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(None),
    }
}

/// A message on a stream: two bytes with its length, then itself.
pub(crate) async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut frame = vec![0; usize::from(length)];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}
