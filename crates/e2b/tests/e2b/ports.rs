//! Ports of sandboxes, as these clients ask for them. Nothing listens in a simulated one: who is let in is told just that.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Answer, World, request, send};

const PORT: u16 = 3000;
const TRAFFIC: &str = "e2b-traffic-access-token";
const ENVD: &str = "x-access-token";

async fn made(world: &World, network: Value) -> Value {
    let asked = json!({ "templateID": "base", "network": network });
    let made = world.api("POST", "/v2/sandboxes", asked).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    made.json()
}

async fn visit(world: &World, sandbox: &Value, token: Option<(&str, &str)>) -> Answer {
    let mut request = request("GET", "/")
        .header("e2b-sandbox-id", text(sandbox, "sandboxID"))
        .header("e2b-sandbox-port", PORT);
    if let Some((name, token)) = token {
        request = request.header(name, token);
    }
    send(&world.front, request.body(Body::empty()).unwrap()).await
}

fn text<'v>(sandbox: &'v Value, field: &str) -> &'v str {
    sandbox[field].as_str().unwrap()
}

#[track_caller]
fn is_let_in(answer: &Answer, sandbox: &Value) {
    let wanted = json!({
        "sandboxId": sandbox["sandboxID"], "port": PORT, "code": 502,
        "message": "The sandbox is running but port is not open",
    });
    assert_eq!(
        (answer.status, answer.json()),
        (StatusCode::BAD_GATEWAY, wanted)
    );
}

#[tokio::test]
async fn a_private_port_opens_to_the_tokens_of_its_sandbox_only() {
    let world = World::new().await;
    let private = json!({ "allowPublicTraffic": false });
    let own = made(&world, private.clone()).await;
    let other = made(&world, private).await;
    for token in [
        None,
        Some((TRAFFIC, "nonsense")),
        Some((TRAFFIC, text(&other, "trafficAccessToken"))),
        Some((ENVD, text(&other, "envdAccessToken"))),
        // Each where the other belongs.
        Some((TRAFFIC, text(&own, "envdAccessToken"))),
        Some((ENVD, text(&own, "trafficAccessToken"))),
    ] {
        let answer = visit(&world, &own, token).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{token:?}");
    }
    for token in [
        (TRAFFIC, text(&own, "trafficAccessToken")),
        (ENVD, text(&own, "envdAccessToken")),
    ] {
        is_let_in(&visit(&world, &own, Some(token)).await, &own);
    }
}

#[tokio::test]
async fn a_public_port_opens_to_everybody_while_its_sandbox_is_there() {
    let world = World::new().await;
    let sandbox = made(&world, Value::Null).await;
    is_let_in(&visit(&world, &sandbox, None).await, &sandbox);

    let id = text(&sandbox, "sandboxID");
    let path = format!("/sandboxes/{id}");
    let deleted = world.api("DELETE", &path, Value::Null).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let answer = visit(&world, &sandbox, None).await;
    assert_eq!(answer.json()["message"], "The sandbox was not found");
}
