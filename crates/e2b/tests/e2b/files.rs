//! Files as bodies.

use std::io::{Read, Write};

use axum::body::Body;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::world::{Answer, Island, World, request, send};

async fn write(sandbox: &Island, path: &str, content: impl Into<Body>) -> Answer {
    let request = sandbox.request("POST", &format!("/files?path={path}"));
    let request = request.header("content-type", "application/octet-stream");
    sandbox.send(request.body(content.into()).unwrap()).await
}

async fn read(sandbox: &Island, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = sandbox.request("GET", &format!("/files?path={path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sandbox.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_written_and_in_parts() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let written = write(&sandbox, "/tmp/a", "0123456789").await;
    assert_eq!(written.status, StatusCode::OK);
    assert_eq!(
        written.json(),
        json!([{ "path": "/tmp/a", "name": "a", "type": "file" }])
    );
    let whole = read(&sandbox, "/tmp/a", &[]).await;
    assert_eq!(
        (&whole.body[..], whole.header("content-length")),
        (&b"0123456789"[..], "10")
    );
    for (range, status, body, says) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=8-", 206, "89", "bytes 8-9/10"),
        ("bytes=-1", 206, "9", "bytes 9-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=4-2", 200, "0123456789", ""),
    ] {
        let part = read(&sandbox, "/tmp/a", &[("range", range)]).await;
        let seen = (
            part.status.as_u16(),
            &part.body[..],
            part.header("content-range"),
        );
        assert_eq!(seen, (status, body.as_bytes(), says), "{range}");
    }
    let below_home = write(&sandbox, "notes/b", "x").await.json();
    assert_eq!(below_home[0]["path"], "/root/notes/b");
    assert_eq!(
        &read(&sandbox, "~/notes/../notes/b", &[]).await.body[..],
        b"x"
    );
}

#[tokio::test]
async fn an_empty_file_says_that_it_is_empty() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    write(&sandbox, "/tmp/empty", "").await;
    let empty = read(&sandbox, "/tmp/empty", &[]).await;
    assert_eq!(empty.status, StatusCode::OK);
    assert_eq!((empty.header("content-length"), empty.body.len()), ("0", 0));
    let missing = read(&sandbox, "/tmp/missing", &[]).await;
    let wanted = json!({ "code": 404, "message": "path '/tmp/missing' does not exist" });
    assert_eq!(
        (missing.status, missing.json()),
        (StatusCode::NOT_FOUND, wanted)
    );
    let folder = read(&sandbox, "/tmp", &[]).await;
    assert_eq!(
        (folder.status, &folder.json()["code"]),
        (StatusCode::BAD_REQUEST, &json!(400))
    );
}

#[tokio::test]
async fn bodies_are_packed_where_both_sides_say_so() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let text = "a line that is said again\n".repeat(100);
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    let request = sandbox.request("POST", "/files?path=/tmp/lines");
    let request = request
        .header("content-type", "application/octet-stream")
        .header("content-encoding", "gzip");
    let packed = packed.finish().unwrap();
    sandbox.send(request.body(packed.into()).unwrap()).await;
    let plain = read(&sandbox, "/tmp/lines", &[]).await;
    assert!(plain.body == text && plain.header("content-encoding").is_empty());
    let packed = read(&sandbox, "/tmp/lines", &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut unpacked = String::new();
    GzDecoder::new(&packed.body[..])
        .read_to_string(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, text);
}

#[tokio::test]
async fn a_form_has_many_files_with_whole_paths() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let part = |path: &str, content: &str| {
        format!(
            "--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{path}\"\r\n\r\n{content}\r\n"
        )
    };
    let form = part("/tmp/one", "1") + &part("/tmp/below/two", "22") + "--cut--\r\n";
    let request = sandbox.request("POST", "/files");
    let request = request.header("content-type", "multipart/form-data; boundary=cut");
    let written = sandbox.send(request.body(form.into()).unwrap()).await;
    let wanted = json!([
        { "path": "/tmp/one", "name": "one", "type": "file" },
        { "path": "/tmp/below/two", "name": "two", "type": "file" },
    ]);
    assert_eq!((written.status, written.json()), (StatusCode::OK, wanted));
    assert_eq!(&read(&sandbox, "/tmp/below/two", &[]).await.body[..], b"22");

    let broken = part("/tmp/three", "half");
    let request = sandbox.request("POST", "/files");
    let request = request.header("content-type", "multipart/form-data; boundary=cut");
    let refused = sandbox
        .send(request.body(broken.trim_end().to_owned().into()).unwrap())
        .await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);

    let compose =
        json!({ "source_paths": ["/tmp/one", "/tmp/below/two"], "destination": "/tmp/all" });
    let request = sandbox.request("POST", "/files/compose");
    let request = request.header("content-type", "application/json");
    let composed = sandbox
        .send(request.body(compose.to_string().into()).unwrap())
        .await;
    assert_eq!(composed.status, StatusCode::OK, "{:?}", composed.body);
    assert_eq!(&read(&sandbox, "/tmp/all", &[]).await.body[..], b"122");
}

fn signature(sandbox: &Island, what: &str, end: Option<&str>) -> String {
    let mut signed = format!("{what}:{}", sandbox.token);
    let mut query = String::new();
    if let Some(end) = end {
        signed = format!("{signed}:{end}");
        query = format!("&signature_expiration={end}");
    }
    let digest = STANDARD_NO_PAD.encode(Sha256::digest(signed));
    let digest: String = form_urlencoded::byte_serialize(digest.as_bytes()).collect();
    format!("signature=v1_{digest}{query}")
}

#[tokio::test]
async fn a_signed_link_opens_one_file_one_way_and_finds_its_sandbox() {
    let world = World::new().await;
    let (_other, sandbox) = (world.sandbox().await, world.sandbox().await);
    write(&sandbox, "/tmp/a", "secret").await;
    let status = async |method: &str, path: &str, signature: &str| {
        let request = request(method, &format!("/files?path={path}&{signature}"));
        let request = request.header("content-type", "application/octet-stream");
        let answer = send(&world.front, request.body("new".into()).unwrap()).await;
        answer.status.as_u16()
    };
    let link = signature(&sandbox, "/tmp/a:read:", None);
    assert_eq!(status("GET", "/tmp/a", &link).await, 200);
    assert_eq!(
        status("GET", "/tmp/b", &link).await,
        502,
        "another file is nobody's"
    );
    assert_eq!(
        status("POST", "/tmp/a", &link).await,
        502,
        "reading is not writing"
    );
    let link = signature(&sandbox, "/tmp/a:write:", Some("99999999999"));
    assert_eq!(status("POST", "/tmp/a", &link).await, 200);
    assert_eq!(&read(&sandbox, "/tmp/a", &[]).await.body[..], b"new");
    let over = signature(&sandbox, "/tmp/a:read:", Some("1"));
    assert_eq!(status("GET", "/tmp/a", &over).await, 401);
    let longer = over.replace("expiration=1", "expiration=99999999999");
    assert_eq!(
        status("GET", "/tmp/a", &longer).await,
        502,
        "the time is signed, too"
    );

    let wrong = sandbox
        .request("GET", "/files?path=/tmp/a")
        .header("x-none", "");
    let mut wrong = wrong.body(Body::empty()).unwrap();
    wrong.headers_mut().remove("x-access-token");
    let refused = sandbox.send(wrong).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (StatusCode::UNAUTHORIZED, &json!(401))
    );
}
