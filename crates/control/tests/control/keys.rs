//! Keys: which count, and for what.

use std::os::unix::fs::PermissionsExt;

use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use skerry_control::{Clock, Scope};
use skerry_store::NewKey;
use skerry_types::{ErrorCode, KeyId};

use crate::world::{World, code};

async fn add(world: &World, secret: &str, scopes: &[&str], lives: Option<i64>) -> KeyId {
    let key = NewKey {
        id: KeyId::new(),
        name: "test".into(),
        prefix: "sk_".into(),
        hash: Sha256::digest(secret).into(),
        scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        expires_at: lives.map(|s| world.clock.now() + SignedDuration::from_secs(s)),
    };
    let made = world
        .store
        .create_key(&world.caller.tenant, key, world.clock.now());
    made.await.unwrap().id
}

#[tokio::test]
async fn the_local_key_is_made_once_and_private() {
    let world = World::new(1).await;
    let path = world.path("key");
    let written = std::fs::read_to_string(&path).unwrap();
    let secret = written.trim();
    assert_eq!(secret.len(), 47);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(world.control.ensure_local_key(&path).await.unwrap(), secret);

    std::fs::write(&path, "sk_tampered").unwrap();
    let fresh = world.control.ensure_local_key(&path).await.unwrap();
    assert_ne!(fresh, secret);
    world.control.authenticate(&fresh).await.unwrap();
    let old = world.control.authenticate(secret).await;
    assert_eq!(code(old), ErrorCode::Unauthorized);
}

#[tokio::test]
async fn keys_that_do_not_count_are_refused_alike() {
    let world = World::new(1).await;
    let long = format!("sk_{}", "x".repeat(5000));
    for secret in ["", "sk_", "sk_unknown", "Bearer sk_x", "pk_x", &long] {
        let refused = world.control.authenticate(secret).await;
        assert_eq!(code(refused), ErrorCode::Unauthorized, "{secret:.20}");
    }
    add(&world, "sk_short_lived", &[], Some(10)).await;
    world.control.authenticate("sk_short_lived").await.unwrap();
    world.pass(10);
    let expired = world.control.authenticate("sk_short_lived").await;
    assert_eq!(code(expired), ErrorCode::Unauthorized);
    let id = add(&world, "sk_revoked", &[], None).await;
    world.control.authenticate("sk_revoked").await.unwrap();
    let now = world.clock.now();
    world
        .store
        .revoke_key(&world.caller.tenant, id, now)
        .await
        .unwrap();
    // By another process, as far as control can tell: trusted for a moment, and no longer.
    world.pass(4);
    world.control.authenticate("sk_revoked").await.unwrap();
    world.pass(1);
    let revoked = world.control.authenticate("sk_revoked").await;
    assert_eq!(code(revoked), ErrorCode::Unauthorized);
}

#[tokio::test]
async fn scopes_narrow_and_none_means_all() {
    let world = World::new(1).await;
    add(
        &world,
        "sk_reader",
        &["sandbox:read", "from:the:future"],
        None,
    )
    .await;
    let reader = world.control.authenticate("sk_reader").await.unwrap();
    reader.require(Scope::SandboxRead).unwrap();
    for &scope in Scope::ALL.iter().filter(|s| **s != Scope::SandboxRead) {
        assert_eq!(code(reader.require(scope)), ErrorCode::Forbidden);
        world.caller.require(scope).unwrap();
    }
    add(&world, "sk_nothing", &["from:the:future"], None).await;
    let nothing = world.control.authenticate("sk_nothing").await.unwrap();
    assert_eq!(
        code(nothing.require(Scope::SandboxRead)),
        ErrorCode::Forbidden
    );
}
