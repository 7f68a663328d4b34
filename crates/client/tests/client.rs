//! The client against servers that refuse, break off and lie.
#![expect(clippy::unwrap_used, reason = "a test may end where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use skerry_client::api::{CreateSandbox, RunInSession};
use skerry_client::{Client, ClientError, ListSandboxes, Output};
use skerry_types::{ErrorCode, ExecId, SandboxId, SessionId};
use tokio::sync::Mutex;

/// What came in: for each request the headers.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<HeaderMap>>>);

impl Seen {
    async fn add(&self, headers: HeaderMap) -> usize {
        let mut seen = self.0.lock().await;
        seen.push(headers);
        seen.len()
    }

    async fn header(&self, name: &str) -> Vec<Option<String>> {
        let value = |h: &HeaderMap| Some(h.get(name)?.to_str().unwrap().to_owned());
        self.0.lock().await.iter().map(value).collect()
    }
}

async fn serve(routes: Router) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Client::new(&url, "key").unwrap()
}

fn error(status: u16, code: ErrorCode, retry_after: Option<&str>) -> Response {
    let body = format!(
        r#"{{"error":"{code}","code":"{code}","message":"no","hint":"later","request_id":"req_1","retry_after":null}}"#
    );
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert("retry-after", seconds.parse().unwrap());
    }
    response
}

/// Refuses all requests in this way and counts them.
async fn refused(
    status: u16,
    code: ErrorCode,
    retry_after: Option<&'static str>,
) -> (u32, ClientError) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let routes = Router::new().fallback(move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        error(status, code, retry_after)
    });
    let client = serve(routes).await;
    let failed = client.create(&CreateSandbox::default()).await.unwrap_err();
    (count.load(Ordering::SeqCst), failed)
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_with_the_same_key() {
    let seen = Seen::default();
    let routes = Router::new().route(
        "/v1/sandboxes",
        post(|State(seen): State<Seen>, headers: HeaderMap| async move {
            match seen.add(headers).await {
                1 => error(503, ErrorCode::NoCapacity, None),
                2 => error(429, ErrorCode::RateLimited, Some("0")),
                _ => error(409, ErrorCode::Conflict, None),
            }
        }),
    );
    let client = serve(routes.with_state(seen.clone())).await;
    let failed = client.create(&CreateSandbox::default()).await.unwrap_err();
    assert_eq!(failed.code(), Some(ErrorCode::Conflict));
    assert_eq!(
        (failed.hint(), failed.request_id()),
        (Some("later"), Some("req_1"))
    );
    let keys = seen.header("idempotency-key").await;
    assert_eq!(keys.len(), 3);
    assert!(
        keys[0].is_some() && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
}

#[tokio::test]
async fn what_will_not_get_better_is_asked_once() {
    for (status, code, after) in [
        (400, ErrorCode::ValidationError, None),
        (401, ErrorCode::Unauthorized, Some("0")),
        (404, ErrorCode::NotFound, None),
        (429, ErrorCode::QuotaExceeded, None),
        (500, ErrorCode::InternalError, None),
        (503, ErrorCode::ServiceUnavailable, Some("86400")),
    ] {
        let (asked, failed) = refused(status, code, after).await;
        assert_eq!((asked, failed.code()), (1, Some(code)));
    }
}

#[tokio::test]
async fn a_busy_server_is_not_asked_for_ever() {
    let (asked, failed) = refused(503, ErrorCode::ServiceUnavailable, Some("0")).await;
    assert_eq!(
        (asked, failed.code()),
        (4, Some(ErrorCode::ServiceUnavailable))
    );
}

#[tokio::test]
async fn what_was_asked_before_a_break_is_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU32::new(0));
    let routes = Router::new().fallback(async move || {
        // Oftener than a server that is busy is asked.
        if count.fetch_add(1, Ordering::SeqCst) < 10 {
            return error(409, ErrorCode::Conflict, Some("0"));
        }
        error(404, ErrorCode::NotFound, None)
    });
    tokio::spawn(async move {
        let (broken, _) = listener.accept().await.unwrap();
        broken.readable().await.unwrap();
        drop(broken);
        axum::serve(listener, routes).await
    });
    let client = Client::new(&url, "key").unwrap();
    let failed = client.create(&CreateSandbox::default()).await.unwrap_err();
    assert_eq!(failed.code(), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn what_must_not_be_done_twice_is_not_sent_again_after_a_break() {
    let count = Arc::new(AtomicU32::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            stream.readable().await.unwrap();
            drop(stream);
        }
    });
    let client = Client::new(&url, "key").unwrap();
    let sandbox = client.sandbox(SandboxId::new());
    let request = RunInSession {
        cmd: "true".into(),
        timeout_seconds: None,
        wait: None,
    };
    let failed = sandbox.start_in_session(SessionId::new(), &request).await;
    assert!(matches!(failed, Err(ClientError::Broken(_))), "{failed:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(sandbox.get().await.is_err());
    assert_eq!(
        count.load(Ordering::SeqCst),
        5,
        "a read is tried four times"
    );
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_whatever_cuts_it() {
    const PARTS: [&str; 5] = [
        "id: 1\ndata: {\"seq\":1,\"t\":\"stdout\",\"data\":\"a\"}\n\nid: 2\ndata: {\"seq\":2,\"t\":\"std",
        "",
        "id: 2\ndata: {\"seq\":2,\"t\":\"stderr\",\"data_base64\":\"/w==\"}\n\n",
        "!",
        "id: 3\ndata: {\"seq\":3,\"t\":\"exit\",\"end\":{\"kind\":\"exited\",\"code\":5}}\n\n",
    ];
    let seen = Seen::default();
    let routes = Router::new().route(
        "/v1/sandboxes/{id}/exec/{exec}/stream",
        get(|State(seen): State<Seen>, headers: HeaderMap| async move {
            match PARTS[seen.add(headers).await - 1] {
                "!" => error(503, ErrorCode::ServiceUnavailable, None),
                part => Body::from(part).into_response(),
            }
        }),
    );
    let client = serve(routes.with_state(seen.clone())).await;
    let mut events = client.sandbox(SandboxId::new()).follow(ExecId::new(), 0);
    let mut outputs = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        outputs.push(Output::of(event).unwrap());
    }
    assert_eq!(
        outputs[..2],
        [
            Output::Stdout("a".into()),
            Output::Stderr(vec![0xff].into())
        ]
    );
    assert!(matches!(&outputs[2], Output::Exit(exit) if exit.end.exit_code() == Some(5)));
    let asked: Vec<String> = seen
        .header("last-event-id")
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(asked, ["0", "1", "1", "2", "2"]);
    assert!(
        events.next().await.unwrap().is_none(),
        "nothing after the last"
    );
}

#[tokio::test]
async fn a_stream_that_is_refused_ends_with_the_reason() {
    let client =
        serve(Router::new().fallback(|| async { error(404, ErrorCode::NotFound, None) })).await;
    let mut events = client.sandbox(SandboxId::new()).follow(ExecId::new(), 0);
    assert_eq!(
        events.next().await.unwrap_err().code(),
        Some(ErrorCode::NotFound)
    );
    assert!(events.next().await.unwrap().is_none());
}

#[tokio::test]
async fn strangers_are_told_from_servers() {
    let client =
        serve(Router::new().fallback(|| async { (StatusCode::NOT_FOUND, "<html>") })).await;
    let failed = client.list(&ListSandboxes::default()).await.unwrap_err();
    assert!(
        matches!(failed, ClientError::Strange { status: 404 }),
        "{failed:?}"
    );
    // Nothing listens on port 1 of loopback.
    let nobody = Client::new("http://127.0.0.1:1", "key").unwrap();
    let failed = nobody.list(&ListSandboxes::default()).await.unwrap_err();
    assert!(
        matches!(failed, ClientError::Unreachable { .. }),
        "{failed:?}"
    );
}

#[test]
fn urls_and_keys_are_checked() {
    for url in ["", "x", "ftp://x", "http://", "127.0.0.1:7300"] {
        assert!(
            matches!(Client::new(url, "k"), Err(ClientError::Url { .. })),
            "{url}"
        );
    }
    assert!(matches!(
        Client::new("http://x", "a\nb"),
        Err(ClientError::Key)
    ));
}
