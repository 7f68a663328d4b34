//! Programs in sandboxes that listen, reached by the names of their ports: under load, by readers who do not read, and across a restart.

use futures::future::join_all;
use reqwest::{RequestBuilder, Response, StatusCode};
use skerry_client::Sandbox;
use skerry_client::api::{CreateSandbox, ForkMany, Map, MemoryWish};
use skerry_client::shell;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::copies::{ok, with_memory};
use crate::world::{World, launch};

const PORT: u16 = 3000;
const MIB: usize = 1024 * 1024;
/// For a reader that does not read to fill every buffer on the way, and for a leak to be seen.
const UNREAD_BYTES: u64 = 32 * MIB as u64;

/// Says its path, says bodies back, and never ends on `/endless`; `/tmp/cut` says that somebody left in the middle of that.
const PROGRAM: &str = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path != '/endless':
            return self.wfile.write(self.path.encode())
        try:
            while True:
                self.wfile.write(b'endless ' * 8192)
        except OSError:
            open('/tmp/cut', 'w').close()
    def do_POST(self):
        left = int(self.headers['content-length'])
        self.send_response(200)
        self.end_headers()
        while left:
            data = self.rfile.read(min(left, 1 << 16))
            self.wfile.write(data)
            left -= len(data)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(('127.0.0.1', 3000), Handler).serve_forever()
";

/// Says back what it hears, which is not HTTP.
const ECHO: &str = "python3 -I -c \"
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read())
socketserver.ThreadingTCPServer(('127.0.0.1', 3000), Handler).serve_forever()
\"";

/// The port of a sandbox, as a client with a key reaches it.
struct Site<'w> {
    world: &'w World,
    http: reqwest::Client,
    host: String,
}

impl<'w> Site<'w> {
    async fn of(world: &'w World, sandbox: &Sandbox) -> Self {
        let address = sandbox.port(PORT, 60).await.unwrap();
        let host = address.url.split('/').nth(2).unwrap().to_owned();
        let http = reqwest::Client::new();
        Self { world, http, host }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.world.server.url());
        let request = self.http.request(method.parse().unwrap(), url);
        request
            .header("host", &self.host)
            .header("x-api-key", self.world.server.key())
    }

    async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    async fn until_it_listens(&self) {
        let listens = async || (self.get("/").await.status() == StatusCode::OK).then_some(());
        self.world.eventually("it listens", listens).await;
    }
}

async fn serve(world: &World, sandbox: &Sandbox) {
    let script = format!("python3 -I -c \"{PROGRAM}\"");
    sandbox.start(&shell(script)).await.unwrap();
    Site::of(world, sandbox).await.until_it_listens().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn much_passes_both_ways_and_many_at_once() {
    let world = World::start().await;
    let sandbox = world.sandbox().await;
    let site = Site::of(&world, &sandbox).await;
    assert_eq!(site.get("/").await.status(), StatusCode::BAD_GATEWAY);
    serve(&world, &sandbox).await;
    let sent: Vec<u8> = (0..50 * MIB as u32 / 4)
        .flat_map(u32::to_le_bytes)
        .collect();
    let heard = site.request("POST", "/").body(sent.clone()).send().await;
    let heard = heard.unwrap().bytes().await.unwrap();
    assert!(heard == sent, "{} bytes came back, or others", heard.len());
    let asked = (0..100).map(async |number| {
        let path = format!("/{number}");
        assert_eq!(site.get(&path).await.text().await.unwrap(), path);
    });
    join_all(asked).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_does_not_read_costs_little_and_a_restart_cuts_cleanly() {
    let mut world = World::start().await;
    let sandbox = world.sandbox().await;
    serve(&world, &sandbox).await;
    let site = Site::of(&world, &sandbox).await;
    let before = world.server.resident_bytes().unwrap();
    let mut unread = site.get("/endless").await;
    assert!(unread.chunk().await.unwrap().is_some());
    // Others get on, for longer than it takes to fill what there is.
    for number in 0..100 {
        let path = format!("/{number}");
        assert_eq!(site.get(&path).await.text().await.unwrap(), path);
    }
    let grown = world
        .server
        .resident_bytes()
        .unwrap()
        .saturating_sub(before);
    assert!(grown < UNREAD_BYTES, "{grown} bytes more");
    drop(site);
    world.server.kill().unwrap();
    world.server.start().unwrap();
    while let Ok(Some(_)) = unread.chunk().await {}
    // The program lives, hears that its reader is gone, and is reached as before.
    let site = Site::of(&world, &sandbox).await;
    assert_eq!(site.get("/again").await.text().await.unwrap(), "/again");
    world
        .eventually("the program hears of it", async || {
            let looked = sandbox.run(&shell("test -e /tmp/cut")).await.unwrap();
            (looked.exit_code == Some(0)).then_some(())
        })
        .await;
    drop(site);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_with_memory_has_none_of_the_connections() {
    let world = World::start().await;
    for parent in with_memory(&world).await {
        serve(&world, &parent).await;
        let site = Site::of(&world, &parent).await;
        let mut open = site.get("/endless").await;
        assert!(open.chunk().await.unwrap().is_some());
        let request = ForkMany {
            count: 1,
            memory: MemoryWish::Required,
            env: Map::new(),
            ttl_seconds: None,
            name: None,
            metadata: Map::new(),
        };
        let forked = match parent.fork_many(&request).await {
            Ok(forked) => forked,
            // Not every kernel lets a program that listens be copied.
            Err(error) => {
                println!("left out: {error}");
                continue;
            }
        };
        let child = world.client.sandbox(forked.forks[0].sandbox_id);
        child.wait_running(60).await.unwrap();
        world
            .eventually("the copy's program hears of it", async || {
                let looked = child.run(&shell("test -e /tmp/cut")).await.unwrap();
                (looked.exit_code == Some(0)).then_some(())
            })
            .await;
        let copy = Site::of(&world, &child).await;
        assert_eq!(copy.get("/copy").await.text().await.unwrap(), "/copy");
        assert!(
            open.chunk().await.unwrap().is_some(),
            "the parent's goes on"
        );
        assert_eq!(ok(&parent, "ls /tmp | grep -c cut || true").await, "0\n");
    }
    world.end().await;
}

/// A connection on which nothing but bytes pass.
pub(crate) async fn say(address: &str, said: &[u8]) -> Option<Vec<u8>> {
    let mut client = TcpStream::connect(address).await.ok()?;
    client.write_all(said).await.ok()?;
    client.shutdown().await.ok()?;
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.ok()?;
    Some(heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn published_ports_outlive_the_server_and_end_with_their_sandbox() {
    let mut world = World::launch(launch().env("SKERRY_PUBLISH", &"127.0.0.1:23000-23199")).await;
    let order = CreateSandbox {
        ports: vec![PORT],
        ..CreateSandbox::default()
    };
    let made = world.client.create(&order).await.unwrap();
    let address = format!("127.0.0.1:{}", made.published[0].host_port);
    assert_eq!(made.published[0].url, format!("http://{address}"));
    let sandbox = world.client.sandbox(made.sandbox_id);
    sandbox.start(&shell(ECHO)).await.unwrap();
    let said = b"bytes \xff of any kind".repeat(10_000);
    let echoes = async || (say(&address, &said).await? == said).then_some(());
    world.eventually("it echoes", echoes).await;
    world.server.kill().unwrap();
    assert_eq!(say(&address, &said).await, None);
    world.server.start().unwrap();
    world.eventually("it echoes again", echoes).await;
    let record = sandbox.get().await.unwrap();
    assert_eq!(record.published, made.published);
    sandbox.stop().await.unwrap();
    let closed = async || say(&address, b"").await.is_none().then_some(());
    world.eventually("it is closed", closed).await;
    world.end().await;
}
