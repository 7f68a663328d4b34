//! Asks the host's name servers, each question from a port and under an id that nobody inside can know.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::dns::read_frame;
use crate::message::{Question, framed};

const PORT: u16 = 53;
/// As many as the C library asks.
const MAX_SERVERS: usize = 3;
const UDP_TIMEOUT: Duration = Duration::from_secs(2);
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// A lost datagram is asked for once more.
const UDP_ROUNDS: usize = 2;
const MAX_ANSWER: usize = 65_535;

/// Asks over UDP; a cut answer is passed on as it is, so that the sandbox asks again over TCP.
pub(crate) async fn over_udp(servers: &[SocketAddr], question: &Question) -> io::Result<Vec<u8>> {
    for _ in 0..UDP_ROUNDS {
        for &server in servers {
            if let Ok(Ok(answer)) =
                tokio::time::timeout(UDP_TIMEOUT, ask_udp(server, question)).await
            {
                return Ok(answer);
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Asks over TCP, and over UDP when no server answers there.
pub(crate) async fn over_tcp(servers: &[SocketAddr], question: &Question) -> io::Result<Vec<u8>> {
    for &server in servers {
        if let Ok(Ok(answer)) = tokio::time::timeout(TCP_TIMEOUT, ask_tcp(server, question)).await {
            return Ok(answer);
        }
    }
    over_udp(servers, question).await
}

async fn ask_udp(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = rand::random();
    socket.send(&question.under(id)).await?;
    let mut heard = vec![0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut heard).await?;
        if let Some(answer) = question.answer_under(id, &heard[..length]) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id = rand::random();
    stream.write_all(&framed(&question.under(id))).await?;
    let heard = read_frame(&mut stream).await?;
    let answer = question.answer_under(id, &heard);
    answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The host's name servers, as they are written now; `None` where that cannot be read.
pub(crate) fn read(resolv_conf: &Path) -> Option<Vec<SocketAddr>> {
    let text = std::fs::read_to_string(resolv_conf).ok()?;
    Some(parse(&text))
}

fn parse(resolv_conf: &str) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = (words.next()? == "nameserver").then(|| words.next())??;
            Some(SocketAddr::new(address.parse().ok()?, PORT))
        })
        .take(MAX_SERVERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn name_servers_are_found_among_the_other_lines() {
        let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 10.0.0.1 # x\n\
                    nameserver nonsense\nnameserver ::1\noptions edns0\n";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53"]);
    }
}
