//! Pulling from a registry, which here is a small stateful fake in the same process.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io};

use crate::common::{Store, Tar, TestImage, sha256};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use skerry_image::{
    Auth, ImageError, Kind, Limits, Options, Phase, PrivateRegistry, Progress, Reach, Room,
};
use skerry_types::{Error, ErrorCode};
use tokio::sync::Notify;

const TOKEN: &str = "let-me-in";
/// base64 of `me:secret`.
const LOGIN: &str = "Basic bWU6c2VjcmV0";

#[derive(Default)]
struct FakeRegistry {
    blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    manifests: Mutex<HashMap<String, Vec<u8>>>,
    hits: Mutex<HashMap<String, usize>>,
    /// Wants a login, and answers only to the token that it gives for it.
    private: bool,
    /// Sends half of this blob and then nothing, after it has told that it did.
    stuck: Mutex<Option<String>>,
    /// Breaks off after so many bytes of any one answer.
    cut_after: Option<usize>,
    /// Goes on where it is asked to.
    ranges: bool,
    sent_half: Notify,
    /// Where tokens are had, if not here.
    realm: Option<String>,
    /// A token counts for so many requests.
    uses: Option<usize>,
    used: AtomicUsize,
    /// Blobs are had below this address.
    moved_to: Option<String>,
    /// What it says instead of any manifest.
    fault: Option<(StatusCode, &'static str)>,
    /// Its manifests do not end.
    endless: bool,
    asked: AtomicUsize,
}

impl FakeRegistry {
    async fn start(self) -> (Arc<Self>, String) {
        let fake = Arc::new(self);
        let app = Router::new()
            .route("/token", get(token))
            .route("/v2/", get(version))
            .route("/v2/app/demo/manifests/{name}", get(manifest))
            .route("/v2/app/demo/blobs/{digest}", get(blob))
            .with_state(fake.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (fake, format!("{address}/app/demo"))
    }

    fn holding(image: &TestImage) -> Self {
        let fake = Self::default();
        *fake.blobs.lock() = image.blobs();
        fake.tag("latest", image.index());
        fake.tag(&sha256(&image.manifest), image.manifest.clone());
        fake
    }

    fn tag(&self, name: &str, manifest: Vec<u8>) {
        self.manifests.lock().insert(name.to_owned(), manifest);
    }

    fn allows(&self, headers: &HeaderMap) -> bool {
        let wanted = format!("Bearer {TOKEN}");
        let is_right = headers
            .get(header::AUTHORIZATION)
            .is_some_and(|value| value == &wanted);
        !self.private || (is_right && self.uses.is_none_or(|most| most > self.use_token()))
    }

    /// Gives how often it was used before.
    fn use_token(&self) -> usize {
        self.used.fetch_add(1, Ordering::Relaxed)
    }

    fn hits(&self, bytes: &[u8]) -> usize {
        self.hits.lock().get(&sha256(bytes)).copied().unwrap_or(0)
    }
}

async fn version(State(fake): State<Arc<FakeRegistry>>, request: Request) -> Response {
    fake.asked.fetch_add(1, Ordering::Relaxed);
    if !fake.private {
        return StatusCode::OK.into_response();
    }
    let host = request.headers()[header::HOST].to_str().unwrap();
    let here = format!("http://{host}/token");
    let realm = fake.realm.as_ref().unwrap_or(&here);
    let challenge = format!("Bearer realm=\"{realm}\",service=\"fake\"");
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, challenge)],
    )
        .into_response()
}

async fn token(State(fake): State<Arc<FakeRegistry>>, headers: HeaderMap) -> Response {
    fake.asked.fetch_add(1, Ordering::Relaxed);
    fake.used.store(0, Ordering::Relaxed);
    if headers
        .get(header::AUTHORIZATION)
        .is_some_and(|login| login == LOGIN)
    {
        return axum::Json(serde_json::json!({"token": TOKEN})).into_response();
    }
    StatusCode::UNAUTHORIZED.into_response()
}

async fn manifest(
    State(fake): State<Arc<FakeRegistry>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !fake.allows(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some(fault) = fake.fault {
        return fault.into_response();
    }
    if fake.endless {
        let zeros = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b' '; 1 << 16])));
        return Body::from_stream(zeros).into_response();
    }
    match fake.manifests.lock().get(&name) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn blob(
    State(fake): State<Arc<FakeRegistry>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !fake.allows(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    *fake.hits.lock().entry(digest.clone()).or_default() += 1;
    if let Some(place) = &fake.moved_to {
        return Redirect::temporary(&format!("http://{place}/v2/app/demo/blobs/{digest}"))
            .into_response();
    }
    let Some(bytes) = fake.blobs.lock().get(&digest).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(most) = fake.cut_after {
        return cut(&bytes, most, from(&headers).filter(|_| fake.ranges));
    }
    if fake.stuck.lock().as_ref() != Some(&digest) {
        return bytes.into_response();
    }
    let half = Bytes::from(bytes[..bytes.len() / 2].to_vec());
    let first = stream::once(async move { Ok::<_, std::io::Error>(half) });
    let never = stream::once(async move {
        fake.sent_half.notify_one();
        std::future::pending().await
    });
    Body::from_stream(first.chain(never)).into_response()
}

/// Where a request wants to go on.
fn from(headers: &HeaderMap) -> Option<usize> {
    let range = headers.get(header::RANGE)?.to_str().unwrap();
    let start = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    Some(start.parse().unwrap())
}

/// At most so many bytes, and then the connection breaks if there were more.
fn cut(bytes: &[u8], most: usize, from: Option<usize>) -> Response {
    let status = match from {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let rest = &bytes[from.unwrap_or(0)..];
    let sent = Bytes::copy_from_slice(&rest[..rest.len().min(most)]);
    let broken = (sent.len() < rest.len()).then(|| Err(std::io::Error::other("cut")));
    let body = stream::iter(std::iter::once(Ok(sent)).chain(broken));
    // A moment of its own, so that what was sent leaves before the connection does.
    let body = body.then(|piece| async {
        tokio::task::yield_now().await;
        piece
    });
    let length = [(header::CONTENT_LENGTH, rest.len())];
    (status, length, Body::from_stream(body)).into_response()
}

/// A store that asks nobody on loopback but these.
fn closed(named: &[&str]) -> Store {
    let registry = |name: &&str| name.parse::<PrivateRegistry>().unwrap();
    let named = named.iter().map(registry).collect();
    let judge = |address: IpAddr| address.is_loopback().then(|| "it is ours".to_owned());
    Store::opened(Options {
        reach: Reach::new(judge, named),
        ..Options::default()
    })
}

/// Host and port of an image's registry.
fn host(name: &str) -> &str {
    name.split_once('/').unwrap().0
}

fn me(password: &str) -> Auth {
    Auth::Basic {
        user: "me".to_owned(),
        password: password.to_owned(),
    }
}

fn image() -> TestImage {
    let lower = Tar::new()
        .folder("etc")
        .file("etc/gone", b"gone")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("etc/kept", b"kept");
    let upper = Tar::new()
        .file("etc/.wh.gone", b"")
        .file("bin/tool", &b"x".repeat(100_000))
        .hardlink("bin/tool2", "bin/tool");
    TestImage::new(vec![lower.done(), upper.done()])
}

#[tokio::test]
async fn an_image_comes_through_its_index_for_this_machine() {
    let (_, name) = FakeRegistry::holding(&image()).start().await;
    let store = Store::new();
    let (reports, seen) = tokio::sync::watch::channel(None);
    let got = store
        .images
        .ensure(&name, Progress::watch(reports))
        .await
        .unwrap();
    assert_eq!((got.kind, got.layers.len()), (Kind::Oci, 2));
    assert_eq!(got.digest, sha256(&image().index()));
    assert_eq!(fs::read(got.layers[0].join("etc/gone")).unwrap(), b"gone");
    assert!(fs::symlink_metadata(got.layers[1].join("etc/gone")).is_ok());
    assert!(
        xattr::get(got.layers[0].join("etc/kept"), "user.note")
            .unwrap()
            .is_some()
    );
    assert_eq!(seen.borrow().as_ref().unwrap().phase, Phase::Done);
    assert_eq!(store.images.resolve(&name).unwrap(), got);
    assert_eq!(store.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn pulls_at_the_same_time_fetch_each_layer_once() {
    let image = image();
    let (fake, name) = FakeRegistry::holding(&image).start().await;
    let store = Store::new();
    let pulls = (0..8).map(|_| store.images.pull(&name, Auth::Anonymous, Progress::none()));
    let got = futures::future::try_join_all(pulls).await.unwrap();
    assert!(got.iter().all(|one| one.id == got[0].id));
    for layer in &image.layers {
        assert_eq!(fake.hits(layer), 1);
    }
}

#[tokio::test]
async fn nobody_waits_for_the_registry_of_somebody_else() {
    let image = image();
    let (slow, slow_name) = FakeRegistry::holding(&image).start().await;
    let (_quick, name) = FakeRegistry::holding(&image).start().await;
    *slow.stuck.lock() = Some(sha256(&image.layers[1]));
    let store = Store::new();
    let stuck = store
        .images
        .pull(&slow_name, Auth::Anonymous, Progress::none());
    let other = async {
        slow.sent_half.notified().await;
        store
            .images
            .pull(&name, Auth::Anonymous, Progress::none())
            .await
    };
    tokio::select! {
        result = stuck => panic!("{result:?}"),
        got = other => assert_eq!(got.unwrap().layers.len(), 2),
    }
}

#[tokio::test]
async fn an_image_that_says_it_is_too_large_is_not_fetched() {
    let image = image();
    let (fake, name) = FakeRegistry::holding(&image).start().await;
    let store = Store::with(Limits {
        bytes: 100,
        ..Limits::default()
    });
    let refused = store.images.pull(&name, Auth::Anonymous, Progress::none());
    let refused = refused.await.unwrap_err();
    assert!(matches!(refused, ImageError::Malformed { .. }), "{refused}");
    assert_eq!(fake.hits(&image.layers[0]), 0);
}

#[tokio::test]
async fn a_new_tag_on_old_layers_fetches_only_what_is_new() {
    let old = image();
    let (fake, name) = FakeRegistry::holding(&old).start().await;
    let store = Store::new();
    let first = store
        .images
        .pull(&name, Auth::Anonymous, Progress::none())
        .await
        .unwrap();
    let mut tars = old.tars.clone();
    tars.push(Tar::new().file("etc/more", b"more").done());
    let new = TestImage::new(tars);
    fake.blobs.lock().extend(new.blobs());
    fake.tag("latest", new.manifest.clone());
    let second = store
        .images
        .pull(&name, Auth::Anonymous, Progress::none())
        .await
        .unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(second.layers.len(), 3);
    assert_eq!(fake.hits(&old.layers[0]), 1);
}

#[tokio::test]
async fn logins_are_exchanged_and_refused() {
    let private = || FakeRegistry {
        private: true,
        ..FakeRegistry::holding(&image())
    };
    let (_, name) = private().start().await;
    for (auth, works) in [
        (me("secret"), true),
        (Auth::Token(TOKEN.to_owned()), true),
        (me("wrong"), false),
        (Auth::Token("wrong".to_owned()), false),
        (Auth::Anonymous, false),
    ] {
        let store = Store::new();
        let shown = format!("{auth:?}");
        assert!(!shown.contains("secret") && !shown.contains(TOKEN));
        let result = store.images.pull(&name, auth, Progress::none()).await;
        match result {
            Ok(_) => assert!(works, "{shown}"),
            Err(error) => {
                assert!(
                    !works && matches!(error, ImageError::Login { .. }),
                    "{shown}: {error:?}"
                );
            }
        }
    }
}

#[test]
fn blobs_that_are_not_what_was_promised_are_refused() {
    let image = image();
    let cut = image.layers[1][..image.layers[1].len() / 2].to_vec();
    let mut longer = image.layers[1].clone();
    longer.extend_from_slice(&[0; 10]);
    let mut changed = image.layers[1].clone();
    *changed.last_mut().unwrap() ^= 1;
    for (what, bytes) in [("cut", cut), ("longer", longer), ("changed", changed)] {
        let store = Store::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = runtime.block_on(pull_changed(&store, &image, bytes));
        let as_expected = match what {
            "changed" => matches!(error, ImageError::Digest { .. }),
            _ => matches!(error, ImageError::Size { .. }),
        };
        assert!(as_expected, "{what}: {error:?}");
        // Waits for the thread that may have unpacked the other layer.
        drop(runtime);
        assert_eq!(store.leftovers(), Vec::<String>::new());
    }
}

/// Pulls with these bytes in place of the upper layer, which fails, and then with the right ones.
async fn pull_changed(store: &Store, image: &TestImage, upper: Vec<u8>) -> ImageError {
    let (fake, name) = FakeRegistry::holding(image).start().await;
    fake.blobs.lock().insert(sha256(&image.layers[1]), upper);
    let pull = || store.images.pull(&name, Auth::Anonymous, Progress::none());
    let error = pull().await.unwrap_err();
    assert!(store.images.resolve(&name).is_err());
    fake.blobs.lock().extend(image.blobs());
    assert!(pull().await.is_ok(), "a bad answer does not stick");
    error
}

#[tokio::test]
async fn a_transfer_that_is_cut_off_goes_on_where_it_was() {
    let noise: Vec<u8> = (0..300_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let image = TestImage::new(vec![Tar::new().file("usr/noise", &noise).done()]);
    let layer = &image.layers[0];
    let cutting = |ranges| FakeRegistry {
        cut_after: Some(layer.len() / 4 + 1),
        ranges,
        ..FakeRegistry::holding(&image)
    };
    let (fake, name) = cutting(true).start().await;
    let store = Store::new();
    let got = store.images.ensure(&name, Progress::none()).await.unwrap();
    assert!(fs::read(got.layers[0].join("usr/noise")).unwrap() == noise);
    assert_eq!(fake.hits(layer), 4);

    // One that always begins anew never gets further.
    let (fake, name) = cutting(false).start().await;
    let error = Store::new().images.ensure(&name, Progress::none()).await;
    assert!(
        matches!(error, Err(ImageError::Unreachable { .. })),
        "{error:?}"
    );
    assert!(fake.hits(layer) > 4);
}

/// Its compressed digest is right, but what it unpacks to is not what the config says.
#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_is_refused() {
    let mut image = image();
    image.layers[1] = crate::common::gzip(&Tar::new().file("usr/evil", b"").done());
    image.manifest = image.manifest_of(&image.layers);
    let (_, name) = FakeRegistry::holding(&image).start().await;
    let store = Store::new();
    let error = store
        .images
        .pull(&name, Auth::Anonymous, Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error:?}");
}

#[tokio::test]
async fn manifests_must_be_those_that_were_asked_for() {
    let image = image();
    let fake = FakeRegistry::holding(&image);
    let other = TestImage::new(vec![Tar::new().folder("other").done()]);
    fake.tag(&sha256(&image.manifest), other.manifest);
    let (_, name) = fake.start().await;
    let store = Store::new();
    let by_tag = store
        .images
        .pull(&name, Auth::Anonymous, Progress::none())
        .await;
    assert!(
        matches!(
            by_tag,
            Err(ImageError::Registry { .. } | ImageError::Digest { .. })
        ),
        "{by_tag:?}"
    );

    let missing = store
        .images
        .pull(&format!("{name}:nope"), Auth::Anonymous, Progress::none())
        .await;
    assert!(
        matches!(missing, Err(ImageError::Missing { .. })),
        "{missing:?}"
    );
}

#[tokio::test]
async fn an_image_for_other_machines_is_named_as_such() {
    let image = TestImage::with_arch(image().tars, "s390x");
    let fake = FakeRegistry::holding(&image);
    fake.tag("latest", image.manifest.clone());
    let (_, name) = fake.start().await;
    let store = Store::new();
    let error = store
        .images
        .pull(&name, Auth::Anonymous, Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Platform { .. }), "{error:?}");
}

#[test]
fn an_abandoned_pull_leaves_only_what_the_next_can_use() {
    let store = Store::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let name = runtime.block_on(pull_twice(&store, &image()));
    // Waits for threads of the abandoned pull.
    drop(runtime);
    assert_eq!(store.leftovers(), Vec::<String>::new());
    store.images.remove(&name, |_| None).unwrap();
    assert_eq!(store.layers(), Vec::<String>::new());
}

/// Once abandoned in the middle of the upper layer, and once to the end.
async fn pull_twice(store: &Store, image: &TestImage) -> String {
    let (fake, name) = FakeRegistry::holding(image).start().await;
    *fake.stuck.lock() = Some(sha256(&image.layers[1]));
    let pull = || store.images.pull(&name, Auth::Anonymous, Progress::none());
    tokio::select! {
        result = pull() => panic!("{result:?}"),
        () = fake.sent_half.notified() => {}
    }
    *fake.stuck.lock() = None;
    assert_eq!(pull().await.unwrap().layers.len(), 2);
    name
}

#[tokio::test]
async fn what_is_closed_is_not_asked_unless_it_is_named() {
    let (fake, name) = FakeRegistry::holding(&image()).start().await;
    let port = name.split([':', '/']).nth(1).unwrap();
    let by_name = format!("localhost:{port}/app/demo");
    for (named, name) in [
        (vec![], &name),
        (vec![], &by_name),
        (vec!["localhost:1"], &by_name),
        (vec!["https://localhost"], &by_name),
    ] {
        let refused = closed(&named)
            .images
            .pull(name, Auth::Anonymous, Progress::none())
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, ImageError::Closed { host: at, .. } if at == host(name)),
            "{refused:?}"
        );
        assert_eq!(Error::from(refused).code, ErrorCode::Forbidden);
    }
    assert_eq!(fake.asked.load(Ordering::Relaxed), 0);
    for name in [&name, &by_name] {
        let store = closed(&[host(name)]);
        let got = store.images.pull(name, Auth::Anonymous, Progress::none());
        assert_eq!(got.await.unwrap().layers.len(), 2);
    }
}

#[tokio::test]
async fn a_registry_leads_nowhere_that_is_closed() {
    let (other, elsewhere) = FakeRegistry::holding(&image()).start().await;
    let elsewhere = host(&elsewhere);
    let moved = FakeRegistry {
        moved_to: Some(elsewhere.to_owned()),
        ..FakeRegistry::holding(&image())
    };
    let tokens = FakeRegistry {
        private: true,
        realm: Some(format!("http://{elsewhere}/token")),
        ..FakeRegistry::holding(&image())
    };
    for (fake, what) in [(moved, "blobs"), (tokens, "tokens")] {
        let (_, name) = fake.start().await;
        let pull = async |named: &[&str]| {
            let store = closed(named);
            let got = store.images.pull(&name, me("secret"), Progress::none());
            got.await.map(|image| image.layers.len())
        };
        let refused = pull(&[host(&name)]).await.unwrap_err();
        assert!(
            matches!(&refused, ImageError::Closed { host, .. } if host == elsewhere),
            "{what}: {refused:?}"
        );
        assert_eq!(other.asked.load(Ordering::Relaxed), 0);
        assert!(other.hits.lock().is_empty());
        assert_eq!(pull(&[host(&name), elsewhere]).await.unwrap(), 2, "{what}");
        other.hits.lock().clear();
    }
}

#[tokio::test]
async fn a_token_that_ran_out_is_had_again() {
    let fake = FakeRegistry {
        private: true,
        uses: Some(2),
        ..FakeRegistry::holding(&image())
    };
    let (fake, name) = fake.start().await;
    let store = Store::new();
    let got = store.images.pull(&name, me("secret"), Progress::none());
    assert_eq!(got.await.unwrap().layers.len(), 2);
    // Two manifests, a config and two layers.
    assert!(fake.asked.load(Ordering::Relaxed) >= 6);
}

#[tokio::test]
async fn answers_are_read_as_far_as_they_can_be_of_use() {
    let json = r#"{"errors": [{"code": "TOOMANYREQUESTS", "message": "come\u0007 back later"}]}"#;
    for (status, body, reason) in [
        (
            StatusCode::TOO_MANY_REQUESTS,
            json,
            "429 Too Many Requests: come back later",
        ),
        (
            StatusCode::BAD_GATEWAY,
            "<html>a page of somebody</html>",
            "502 Bad Gateway",
        ),
    ] {
        let fake = FakeRegistry {
            fault: Some((status, body)),
            ..FakeRegistry::holding(&image())
        };
        let (_, name) = fake.start().await;
        let error = Store::new().images.ensure(&name, Progress::none()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with(&format!("it answered {reason}")), "{error}");
    }
    let endless = FakeRegistry {
        endless: true,
        ..FakeRegistry::holding(&image())
    };
    let (_, name) = endless.start().await;
    let error = Store::new().images.ensure(&name, Progress::none()).await;
    assert!(
        matches!(error, Err(ImageError::Malformed { .. })),
        "{error:?}"
    );
}

#[test]
fn an_image_takes_no_room_that_others_need() {
    let big = Tar::new().file("zeros", &vec![0; 9 << 20]).done();
    let mut state = 1_u64;
    let xorshift = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let noise: Vec<u8> = xorshift.take(9 << 17).flatten().collect();
    let noisy = Tar::new().file("noise", &noise).done();
    // The first is small until it is unpacked.
    for tar in [big, noisy] {
        let image = TestImage::new(vec![tar]);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let room = move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::StorageFull)),
        };
        let store = Store::opened(Options {
            reach: Reach::new(|_| None, Vec::new()),
            room: Room::new(room),
            ..Options::default()
        });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let refused = runtime.block_on(async {
            let (_, name) = FakeRegistry::holding(&image).start().await;
            store.images.ensure(&name, Progress::none()).await
        });
        let refused = Error::from(refused.unwrap_err());
        assert_eq!(refused.code, ErrorCode::DiskFull, "{refused}");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        drop(runtime);
        assert_eq!(store.leftovers(), Vec::<String>::new());
    }
}

/// A slip of the pen must not become a request to somebody's registry.
#[tokio::test]
async fn a_bare_unknown_word_is_not_looked_for_in_a_registry() {
    let store = Store::new();
    let error = store
        .images
        .ensure("alpnie", Progress::none())
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Unknown { .. }), "{error:?}");
}
