//! The resolver of sandboxes: hands their questions to the host's name servers, and remembers what it told to whom.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::Instant;

use crate::control::Gateway;
use crate::message::{self, Question};
use crate::registry::Member;
use crate::relay::accept;
use crate::share::Place;
use crate::upstream;

/// Longest question over UDP; real ones are far shorter.
const MAX_QUESTION: usize = 4096;
/// How long a sandbox may take for its next question on one connection.
const NEXT_QUESTION: Duration = Duration::from_secs(10);

/// How a question came, and goes on.
#[derive(Clone, Copy)]
enum Over {
    Udp,
    Tcp,
}

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
        let Some(turn) = self.turn(&member) else {
            return;
        };
        let (gateway, socket, question) = (Arc::clone(self), Arc::clone(socket), question.to_vec());
        tokio::spawn(async move {
            let answer = gateway.answer_udp(&member, question).await;
            if let Err(error) = send(&socket, answer, peer).await {
                tracing::debug!(%error, "cannot answer a lookup");
            }
            drop(turn);
        });
    }

    /// One of the sandbox's own places among the lookups that are answered at once, and one of everybody's.
    fn turn(&self, member: &Member) -> Option<Place> {
        self.lookups.take(&member.lookups, self.registry.count())
    }

    fn name_servers(&self) -> Arc<[SocketAddr]> {
        self.name_servers.read().clone()
    }

    async fn answer_udp(&self, member: &Member, bytes: Vec<u8>) -> Option<Vec<u8>> {
        match Question::parse(bytes) {
            Ok(question) => Some(self.answer_question(member, &question, Over::Udp).await),
            Err(unfit) => unfit.answer(),
        }
    }

    /// What the sandbox's rules let it know.
    async fn answer_question(&self, member: &Member, question: &Question, over: Over) -> Vec<u8> {
        if let Some(answer) = self.answer_without_asking(member, question) {
            return answer;
        }
        let servers = self.name_servers();
        let answer = match over {
            Over::Udp => upstream::over_udp(&servers, question).await,
            Over::Tcp => upstream::over_tcp(&servers, question).await,
        };
        let Ok(answer) = answer else {
            return question.failure();
        };
        if let Some(name) = question.name() {
            let addresses = question.addresses(&answer);
            let mut names = member.names.lock();
            names.tell(&name, &addresses, Instant::now());
        }
        answer
    }

    fn answer_without_asking(&self, member: &Member, question: &Question) -> Option<Vec<u8>> {
        let egress = Arc::clone(&member.egress.borrow());
        if egress.is_empty() {
            return None;
        }
        let name = question.name().unwrap_or_default();
        if !egress.answers(&name) {
            if !question.is_for_ipv6() {
                let reason = "the sandbox's egress rules deny everything but what they allow, and this name is not allowed";
                self.refuse(member, name, None, reason.to_owned());
            }
            return Some(question.refusal());
        }
        question.is_for_service().then(|| question.nothing())
    }

    async fn stream(self: Arc<Self>, member: Arc<Member>, mut stream: TcpStream) {
        let Some(_own) = member.slots.take() else {
            return;
        };
        tokio::select! {
            ended = self.answer_tcp(&member, &mut stream) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection with lookups broke");
                }
            }
            () = member.gone.cancelled() => {}
        }
    }

    async fn answer_tcp(&self, member: &Member, stream: &mut TcpStream) -> io::Result<()> {
        while let Some(bytes) = next_question(stream).await? {
            let answer = match Question::parse(bytes) {
                Ok(question) => match self.turn(member) {
                    Some(_turn) => self.answer_question(member, &question, Over::Tcp).await,
                    None => question.failure(),
                },
                Err(unfit) => match unfit.answer() {
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
