//! The same server over TLS: whom its certificates convince, and whom it lets go.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder, Version};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use skerry_http::{Settings, Tls, TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::world::World;

/// Serves it over TLS too.
async fn listen(world: &World, tls: &Tls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, app, shutdown) = (tls.clone(), world.app.clone(), world.shutdown.clone());
    let router = skerry_http::router(app.clone());
    tokio::spawn(
        async move { skerry_http::serve_tls(listener, &tls, app, router, shutdown).await },
    );
    address
}

/// A server of a few domains with a CA of its own.
async fn local() -> (World, SocketAddr, String) {
    let domains = vec!["boxes.example".to_owned()];
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::local(folder.path(), &domains).unwrap();
    let ca = tls.ca().unwrap().to_owned();
    let settings = Settings {
        domains,
        ca: Some(ca.clone()),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let address = listen(&world, &tls).await;
    (world, address, ca)
}

fn trusting(ca: &str) -> ClientBuilder {
    let ca = Certificate::from_pem(ca.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([ca])
}

#[tokio::test]
async fn each_name_of_ours_is_vouched_for_and_no_other() {
    let (world, address, ca) = local().await;
    let port = address.port();
    for (host, version) in [
        ("localhost", Version::HTTP_2),
        ("127.0.0.1", Version::HTTP_11),
        ("api.localhost", Version::HTTP_2),
        ("boxes.example", Version::HTTP_11),
        ("api.boxes.example", Version::HTTP_2),
        ("a.b.Boxes.Example", Version::HTTP_11),
    ] {
        let client = match version {
            Version::HTTP_11 => trusting(&ca).http1_only(),
            _ => trusting(&ca),
        };
        let client = client
            .resolve(&host.to_lowercase(), address)
            .build()
            .unwrap();
        let url = format!("https://{host}:{port}/v1/sandboxes");
        let answer = client
            .get(url)
            .bearer_auth(&world.key)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, version),
            "{host}"
        );
    }
    let client = trusting(&ca)
        .resolve("evil.example", address)
        .build()
        .unwrap();
    let refused = client
        .get(format!("https://evil.example:{port}/health"))
        .send()
        .await;
    assert!(refused.unwrap_err().is_connect());
    // Whoever was not told to trust it does not.
    let stranger = reqwest::get(format!("https://localhost:{port}/health")).await;
    assert!(stranger.unwrap_err().is_connect());
}

#[tokio::test]
async fn the_ca_is_there_for_everyone_and_its_key_for_nobody() {
    let (world, _, ca) = local().await;
    let answer = crate::world::send(world.bare("GET", "/ca.pem")).await;
    assert_eq!((answer.status, &answer.body[..]), (200, ca.as_bytes()));
    assert!(!ca.contains("PRIVATE"));
    let none = World::new().await;
    let answer = crate::world::send(none.bare("GET", "/ca.pem")).await;
    assert_eq!((answer.status, answer.code()), (404, "not_found".into()));
}

/// A connection that speaks TLS as this server, and nothing in it yet.
async fn connect(
    address: SocketAddr,
    ca: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn web_sockets_go_through_it() {
    let (world, address, ca) = local().await;
    let s = world.sandbox().await;
    let exec = world.start(&s, "hold").await;
    let url = format!("wss://localhost:{}{s}/exec/{exec}/ws", address.port());
    let mut request = url.into_client_request().unwrap();
    let key = format!("Bearer {}", world.key).parse().unwrap();
    request.headers_mut().insert("authorization", key);
    let stream = connect(address, &ca).await.unwrap();
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    assert_eq!(answer.status(), 101);
    world.node.writes(exec.parse().unwrap(), b"hello");
    let mut seen = Vec::new();
    while !seen.windows(5).any(|part| part == b"hello") {
        use futures::StreamExt;
        seen.extend(socket.next().await.unwrap().unwrap().into_data());
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_is_told_or_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::local(folder.path(), &[]).unwrap();
    let settings = Settings {
        patience: Duration::from_millis(50),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let address = listen(&world, &tls).await;
    let raw = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        // A reset after the answer is as good as a close.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    let plain = raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(
        plain.starts_with("HTTP/1.1 400") && plain.ends_with("https://"),
        "{plain}"
    );
    // Nothing, the beginning of a hello, and one that goes on and on.
    for stalled in [&b""[..], b"\x16", b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"] {
        assert_eq!(raw(stalled).await, "");
    }
    // One whose hands are shaken, and who asks for nothing.
    let mut idle = connect(address, tls.ca().unwrap()).await.unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn certificates_of_the_operator_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (certificate, key) = (at("tls.crt"), at("tls.key"));
    let missing = Tls::of_files(certificate.clone(), key.clone()).unwrap_err();
    assert!(matches!(missing, TlsError::Read { path, .. } if path == certificate));
    let first = self_signed(&certificate, &key);
    let stray = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(at("stray.key"), stray).unwrap();
    let pair = Tls::of_files(certificate.clone(), at("stray.key"));
    assert!(matches!(pair, Err(TlsError::Pair { .. })));
    let tls = Tls::of_files(certificate.clone(), key.clone()).unwrap();
    let world = World::new().await;
    let address = listen(&world, &tls).await;
    let keeper = tokio::spawn(async move { tls.keep_fresh().await });
    connect(address, &first).await.unwrap();
    // What does not fit is not taken.
    fs::write(&certificate, "half of it").unwrap();
    connect(address, &first).await.unwrap();
    let second = self_signed(&certificate, &key);
    while connect(address, &second).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(connect(address, &first).await.is_err());
    keeper.abort();
}

fn self_signed(certificate: &Path, key: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(key, made.signing_key.serialize_pem()).unwrap();
    fs::write(certificate, made.cert.pem()).unwrap();
    made.cert.pem()
}
