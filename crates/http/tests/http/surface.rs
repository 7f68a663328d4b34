//! What the server shows of itself: the document, the pages, the routes.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::operations::documented;
use crate::world::{World, send};

/// Renewed by `SKERRY_UPDATE=1 cargo test -p skerry-http`.
#[test]
fn the_document_is_the_one_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/v1.json");
    let now = skerry_http::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("SKERRY_UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        now == kept,
        "openapi/v1.json is old: SKERRY_UPDATE=1 cargo test -p skerry-http"
    );
}

#[test]
fn the_document_stands_on_its_own() {
    let document = serde_json::to_value(skerry_http::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let text = document.to_string();
    let schemas = &document["components"]["schemas"];
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas[name].is_object(), "{name} is not there");
    }
    let ids = document["paths"].as_object().unwrap().values();
    let ids = ids.flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<_> = ids.map(|o| o["operationId"].as_str().unwrap()).collect();
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "{ids:?}"
    );
}

/// The router tells its routes only to a debugger, so that is what is read here.
#[tokio::test]
async fn the_router_and_the_document_have_the_same_routes() {
    let world = World::new().await;
    let shown = format!("{:?}", skerry_http::router(world.app.clone()));
    let mut routes = BTreeSet::new();
    let (own, _) = shown.split_once("fallback_router:").unwrap();
    for table in own.split("paths: {").skip(1) {
        let parts = table.split("RouteId(").skip(1);
        routes.extend(parts.filter_map(|part| part.split('"').nth(1).map(str::to_owned)));
    }
    routes.retain(|route| !route.contains("__private"));
    let pages = [
        "/",
        "/ca.pem",
        "/docs",
        "/docs/",
        "/docs/{*rest}",
        "/llms.txt",
        "/openapi.json",
    ];
    for page in pages {
        assert!(routes.remove(page), "{page}");
    }
    let operations = documented();
    let paths = operations
        .iter()
        .map(|o| o.split(' ').nth(1).unwrap().to_owned());
    let paths: BTreeSet<String> = paths.collect();
    assert_eq!(routes, paths);
    // No route has a method that is not documented.
    for path in &paths {
        let concrete = path.replace(['{', '}'], "");
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "TRACE"] {
            let status = send(world.request(method, &concrete)).await.status;
            let there = operations.contains(&format!("{method} {path}"));
            assert_eq!(status != 405, there, "{method} {path} gave {status}");
        }
    }
}

#[tokio::test]
async fn pages_are_open_and_load_nothing_from_elsewhere() {
    let world = World::new().await;
    let docs = send(world.bare("GET", "/docs/")).await;
    assert_eq!(docs.status, 200);
    assert!(docs.header("content-type").starts_with("text/html"));
    let html = String::from_utf8(docs.body.to_vec()).unwrap();
    assert!(!html.contains("//"), "only our own paths: {html}");
    for asset in html
        .split(['"', '\''])
        .filter(|part| part.starts_with("./"))
    {
        let path = format!("/docs/{}", &asset[2..]);
        assert_eq!(send(world.bare("GET", &path)).await.status, 200, "{path}");
    }
    let document = send(world.bare("GET", "/openapi.json")).await.json();
    assert_eq!(
        document,
        serde_json::to_value(skerry_http::openapi()).unwrap()
    );
    let text = send(world.bare("GET", "/llms.txt")).await;
    assert!(text.header("content-type").starts_with("text/plain"));
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    assert!(text.contains("POST /v1/sandboxes"));
}

#[tokio::test]
async fn whoever_opens_the_address_is_told_what_it_is() {
    let world = World::new().await;
    let page = send(world.bare("GET", "/")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    for link in html.split("href=\"").skip(1) {
        let path = link.split('"').next().unwrap();
        let status = send(world.bare("GET", path)).await.status;
        assert!(status < 400, "{path} gave {status}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let mut parts = html.split(['<', '>']);
    let style = parts.position(|part| part == "style").and(parts.next());
    let digest = STANDARD.encode(Sha256::digest(style.unwrap()));
    assert!(policy.contains(&format!("'sha256-{digest}'")), "{digest}");
    assert_eq!(send(world.bare("POST", "/")).await.status, 405);
}
