//! What a sandbox can reach: with network none itself, with nat the world but never the host or a private place.

use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::failure::{Verdict, same};
use super::ground::Ground;
use super::{Check, checks};
use crate::{Isolation, NetworkMode, Spec};

pub(super) const CHECKS: &[Check] = checks! {
    "network: none has a loopback and no way out", |c| c.isolation != Isolation::None => none;
    "network: none does not reach the host's loopback", |c| c.isolation != Isolation::None => none_to_host;
    "network: nat reaches neither host nor private ranges", |c| c.isolation != Isolation::None && c.nat => nat;
    "network: nat does not reach a neighbour", |c| c.isolation != Isolation::None && c.nat => neighbour;
};

/// Somebody on the host who says `host` to everyone.
struct Server {
    port: u16,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Verdict<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // Who hangs up early has learnt that somebody is there, which shows as well.
                drop(stream.write_all(b"host").await);
            }
        });
        Ok(Self { port, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const NONE: &str = "
import errno, socket
names = sorted(name for _, name in socket.if_nameindex())
print('interfaces', *names)
for address in ('192.0.2.1', '8.8.8.8', '10.0.0.1', '169.254.169.254'):
    try:
        socket.create_connection((address, 80), 5)
        print('reached', address)
    except OSError as error:
        if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM):
            print(address, error)
server = socket.create_server(('127.0.0.1', 0))
socket.create_connection(server.getsockname(), 5).close()
";

async fn none(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    same("said", agent.python(NONE).await?, "interfaces lo\n")
}

/// Says what answers at some addresses. An open port is nothing yet: a gateway may take every connection, and serve none.
fn listen_at(addresses: &str, port: u16) -> String {
    format!(
        "
import socket
for address in {addresses}:
    try:
        link = socket.create_connection((address, {port}), 3)
        link.settimeout(3)
        link.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
        print(address, link.recv(100))
    except OSError:
        pass
"
    )
}

fn silent(said: &str) -> Verdict {
    let answers: Vec<&str> = said
        .lines()
        .filter(|line| !line.ends_with(" b''"))
        .collect();
    same("answers", answers, Vec::<&str>::new())
}

async fn none_to_host(ground: Ground<'_>) -> Verdict {
    let server = Server::start().await?;
    let (_, mut agent) = ground.sandbox().await?;
    let program = listen_at("('127.0.0.1', 'localhost', '::1', '0.0.0.0')", server.port);
    silent(&agent.python(&program).await?)
}

/// Every way to name the host, as far as the inside can tell.
const HOST: &str = "
import struct
gateways = [socket.inet_ntoa(bytes.fromhex(line.split()[2])[::-1])
    for line in open('/proc/net/route').read().splitlines()[1:]]
HOST = ['127.0.0.1', '127.1.2.3', '0.0.0.0', *gateways]
";

async fn nat(ground: Ground<'_>) -> Verdict {
    let server = Server::start().await?;
    let spec = with_nat(&ground);
    let mut agent = ground.create(&spec).await?;
    let program = format!("import socket\n{HOST}{}", listen_at("HOST", server.port));
    silent(&agent.python(&program).await?)?;
    let private = "('10.0.0.1', '172.16.0.1', '192.168.0.1', '169.254.169.254', '100.64.0.1')";
    silent(&agent.python(&listen_at(private, 80)).await?)
}

const SERVE: &str = "
import socket
server = socket.create_server(('0.0.0.0', 8080))
print('ready', flush=True)
while True:
    server.accept()[0].sendall(b'neighbour')
";

async fn neighbour(ground: Ground<'_>) -> Verdict {
    let spec = with_nat(&ground);
    let made = ground.driver().create(&spec).await?;
    let mut server = ground.connect(spec.id).await?;
    let Some(address) = made.facts.address else {
        return Err(super::Failure::new("nat without an address"));
    };
    let running = server.start(super::agent::python(SERVE)).await?;
    server.until_out(&running, 1).await?;
    let other = with_nat(&ground);
    let mut client = ground.create(&other).await?;
    silent(
        &client
            .python(&listen_at(&format!("('{address}',)"), 8080))
            .await?,
    )
}

fn with_nat(ground: &Ground<'_>) -> Spec {
    Spec {
        network: NetworkMode::Nat,
        ..ground.spec()
    }
}
