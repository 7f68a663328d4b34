//! What a sandbox was given when it was made is in force after it was started again: where it may connect, its volumes, its ports of the host.

use skerry_client::Sandbox;
use skerry_client::api::{CreateSandbox, CreateVolume, Egress, VolumeMount};

use crate::copies::ok;
use crate::ports::say;
use crate::world::{World, launch};

/// Says a file of the volume to whoever connects.
const PROGRAM: &str = "setsid python3 -I -c \"
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(open('/mnt/kept/file', 'rb').read())
socketserver.ThreadingTCPServer(('127.0.0.1', 3000), Handler).serve_forever()
\" </dev/null >/dev/null 2>&1 & true";

/// An address for documents, where nobody is.
const CONNECT: &str = "python3 -I -c \"
import socket
try:
    with socket.create_connection(('192.0.2.7', 9), 5) as link:
        link.recv(1)
except OSError:
    pass
\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_volumes_and_ports_are_those_that_it_had() {
    let world = World::launch(launch().env("SKERRY_PUBLISH", &"127.0.0.1:23200-23399")).await;
    let volume = CreateVolume {
        name: "kept".to_owned(),
        ..CreateVolume::default()
    };
    world.client.create_volume(&volume).await.unwrap();
    let order = CreateSandbox {
        network: Some("nat".to_owned()),
        egress: Some(Egress {
            allow: Vec::new(),
            deny: Some(vec!["0.0.0.0/0".to_owned()]),
        }),
        ports: vec![3000],
        volumes: vec![VolumeMount {
            volume: "kept".to_owned(),
            path: "/mnt/kept".to_owned(),
        }],
        ..CreateSandbox::default()
    };
    let sandbox = world.make(&order).await;
    let made = sandbox.get().await.unwrap();
    ok(&sandbox, "echo first > /mnt/kept/file").await;
    for life in 1..=2 {
        let now = sandbox.get().await.unwrap();
        assert_eq!(
            (now.egress, now.published, now.volumes),
            (
                made.egress.clone(),
                made.published.clone(),
                made.volumes.clone()
            )
        );
        ok(&sandbox, PROGRAM).await;
        let address = format!("127.0.0.1:{}", made.published[0].host_port);
        let says = async || (say(&address, b"").await.as_deref() == Some(b"first\n")).then_some(());
        world.eventually("its port leads to it", says).await;
        ok(&sandbox, CONNECT).await;
        let refused = async || (refusals(&sandbox).await == life).then_some(());
        world.eventually("it was refused", refused).await;
        sandbox.stop().await.unwrap();
        sandbox.wait_ended(60).await.unwrap();
        sandbox.start_again().await.unwrap();
    }
    sandbox.delete().await.unwrap();
    world.client.remove_volume("kept").await.unwrap();
    world.end().await;
}

async fn refusals(sandbox: &Sandbox) -> usize {
    let events = sandbox.events(None).await.unwrap().events;
    let refused = events.iter().filter(|event| event.kind == "egress.refused");
    refused.count()
}
