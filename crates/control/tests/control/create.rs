//! Creating, listing, waiting; what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_control::{CreateRequest, ListQuery, Need, OnTimeout, TimeoutRequest, Until};
use skerry_store::Quotas;
use skerry_types::{ErrorCode, Resources, SandboxState};

use crate::fake::Fault;
use crate::world::{PATIENCE, World, code};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(owned).collect()
}

#[tokio::test]
async fn a_request_without_arguments_runs_and_its_defaults_are_on_record() {
    let world = World::new(2).await;
    let made = world.create().await;
    assert_eq!(made.status, SandboxState::Provisioning);
    let ready = world
        .control
        .wait_until(&world.caller, made.id, Until::Ready, PATIENCE)
        .await
        .unwrap();
    assert_eq!(ready.status, SandboxState::Running);
    assert_eq!((ready.image.as_str(), ready.ttl_seconds), ("base", 3600));
    assert_eq!(
        (ready.idle_seconds, ready.queue_timeout_seconds),
        (900, 300)
    );
    assert_eq!(ready.profile.as_deref(), Some("small"));
    assert_eq!(ready.facts.unwrap().driver, "sim");
    assert_eq!(ready.boot_us, Some(1234));
    let ttl = ready
        .expires_at
        .unwrap()
        .duration_since(ready.started_at.unwrap());
    assert_eq!(ttl.as_secs(), 3600);
}

#[tokio::test]
async fn every_option_is_on_record() {
    let mut world = World::new(2).await;
    let id = world
        .running_with(CreateRequest {
            image: Some("python".into()),
            profile: Some("medium".into()),
            memory_mb: Some(2048),
            ttl_seconds: Some(77),
            idle_seconds: Some(0),
            queue_timeout_seconds: Some(9),
            env: map(&[("TOKEN", "s3cret")]),
            metadata: map(&[("team", "blue")]),
            name: Some("my.box-1".into()),
            network: Some("none".into()),
            project: Some("p 1".into()),
            region: Some("local".into()),
            driver: Some("sim".into()),
            isolation: Some("none".into()),
            privilege: Some("root".into()),
            on_timeout: Some(OnTimeout::Delete),
            ..CreateRequest::default()
        })
        .await;
    let seen = world.get(id).await;
    world.restart().await;
    assert_eq!(world.get(id).await, seen, "all of it is kept");
    let resources = Resources {
        vcpus: 4,
        memory_mb: 2048,
        disk_mb: 80 * 1024,
        pids: 256,
    };
    assert_eq!(seen.resources, resources);
    assert_eq!(seen.profile.as_deref(), Some("medium"));
    assert_eq!((seen.ttl_seconds, seen.idle_seconds), (77, 0));
    assert_eq!(seen.env_names, ["TOKEN"]);
    assert_eq!(seen.metadata, map(&[("team", "blue")]));
    assert_eq!(seen.name.as_deref(), Some("my.box-1"));
    assert_eq!(seen.project.as_deref(), Some("p 1"));
    assert_eq!(
        (seen.region.as_str(), seen.on_timeout),
        ("local", OnTimeout::Delete)
    );
    assert_eq!(seen.driver.as_deref(), Some("sim"));
    assert_eq!(seen.isolation.as_deref(), Some("none"));
    assert_eq!(seen.privilege.as_deref(), Some("root"));
    let said = seen.facts.unwrap();
    assert_eq!(said.privilege, "restricted", "what the node said");
    assert_eq!(said.accelerator.as_deref(), Some("tcg"));
    let order = world.node.order(id).unwrap();
    assert_eq!(
        (order.resources, order.image.as_str()),
        (resources, "python")
    );
    assert_eq!(order.privilege.as_deref(), Some("root"));
    assert_eq!(order.network, "none");
    assert_eq!(
        (seen.image.as_str(), seen.network.as_str()),
        ("python", "none")
    );
    assert_eq!(world.node.env(id).unwrap(), map(&[("TOKEN", "s3cret")]));
}

#[tokio::test]
async fn values_of_the_environment_are_nowhere_in_the_store() {
    let mut world = World::new(1).await;
    let secret = "hunter2-XYZZY";
    let request = || CreateRequest {
        env: map(&[("TOKEN", secret)]),
        ..CreateRequest::default()
    };
    world.running_with(request()).await;
    world.create_with(request()).await;
    world.restart().await;
    world.store.close().await;
    let mut files = 0_usize;
    for entry in std::fs::read_dir(world.path("")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found);
        files += 1;
    }
    let in_a_file = std::env::var("SKERRY_TEST_STORE").as_deref() != Ok("postgres");
    assert!(
        files > usize::from(in_a_file),
        "the key, and the database if it is a file"
    );
}

fn with(change: impl FnOnce(&mut CreateRequest)) -> CreateRequest {
    let mut request = CreateRequest::default();
    change(&mut request);
    request
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_field() {
    let world = World::new(2).await;
    let long = "x".repeat(200_000);
    let many: BTreeMap<_, _> = (0..300).map(|n| (n.to_string(), String::new())).collect();
    let cases = [
        ("image", with(|r| r.image = Some("nope".into()))),
        ("image", with(|r| r.image = Some(String::new()))),
        ("profile", with(|r| r.profile = Some("huge".into()))),
        ("vcpus", with(|r| r.vcpus = Some(0))),
        ("memory_mb", with(|r| r.memory_mb = Some(u32::MAX))),
        ("disk_mb", with(|r| r.disk_mb = Some(1))),
        ("pids", with(|r| r.pids = Some(1))),
        ("ttl_seconds", with(|r| r.ttl_seconds = Some(0))),
        ("ttl_seconds", with(|r| r.ttl_seconds = Some(14_401))),
        ("ttl_seconds", with(|r| r.ttl_seconds = Some(u64::MAX))),
        ("idle_seconds", with(|r| r.idle_seconds = Some(u64::MAX))),
        (
            "queue_timeout_seconds",
            with(|r| r.queue_timeout_seconds = Some(u64::MAX)),
        ),
        ("name", with(|r| r.name = Some("-a".into()))),
        ("name", with(|r| r.name = Some("a/b".into()))),
        ("name", with(|r| r.name = Some("a".repeat(65)))),
        ("network", with(|r| r.network = Some("host".into()))),
        ("project", with(|r| r.project = Some(String::new()))),
        ("project", with(|r| r.project = Some("a\nb".into()))),
        ("project", with(|r| r.project = Some("p".repeat(129)))),
        ("region", with(|r| r.region = Some("mars".into()))),
        ("privilege", with(|r| r.privilege = Some("god".into()))),
        ("driver", with(|r| r.driver = Some("warp".into()))),
        ("isolation", with(|r| r.isolation = Some("magic".into()))),
        ("env", with(|r| r.env = map(&[("A=B", "c")]))),
        ("env", with(|r| r.env = map(&[("", "c")]))),
        ("env", with(|r| r.env = map(&[("A", "c\0")]))),
        ("env", with(|r| r.env = map(&[("A", &long)]))),
        ("env", with(|r| r.env = many.clone())),
        ("metadata", with(|r| r.metadata = map(&[("A", &long)]))),
        ("metadata", with(|r| r.metadata = many.clone())),
        ("ports", with(|r| r.ports = vec![0])),
        ("ports", with(|r| r.ports = vec![80, 80])),
        ("ports", with(|r| r.ports = (1..=17).collect())),
    ];
    for (field, request) in cases {
        let error = world
            .control
            .create(&world.caller, request)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::ValidationError, "{field}: {error}");
        assert!(error.message.starts_with(field), "{field}: {error}");
        assert!(error.message.len() < 400, "{field}: {error}");
    }
    assert!(world.node.started().is_empty());
    let unknown = with(|r| r.image = Some("nope".into()));
    let error = world
        .control
        .create(&world.caller, unknown)
        .await
        .unwrap_err();
    assert!(error.message.contains("base, python"), "{error}");
}

#[tokio::test]
async fn more_isolation_than_there_is_is_refused_with_what_there_is() {
    let world = World::new(2).await;
    for (driver, isolation) in [(Some("vm"), None), (None, Some("application_kernel"))] {
        let request = CreateRequest {
            driver: driver.map(Into::into),
            isolation: isolation.map(Into::into),
            ..CreateRequest::default()
        };
        let error = world
            .control
            .create(&world.caller, request)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported);
        assert!(
            error.message.contains("sim (isolation namespace)"),
            "{error}"
        );
    }
    let enough = CreateRequest {
        isolation: Some("namespace".into()),
        ..CreateRequest::default()
    };
    world.running_with(enough).await;
}

#[tokio::test]
async fn a_name_is_taken_while_its_sandbox_lives() {
    let world = World::new(3).await;
    let named = || with(|r| r.name = Some("box".into()));
    let id = world.running_with(named()).await;
    let create = async || world.control.create(&world.caller, named()).await;
    let error = create().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.contains("box"), "{error}");
    world.control.stop(&world.caller, id).await.unwrap();
    world.becomes(id, SandboxState::Stopped).await;
    let again = create().await.unwrap();
    let by_name = ListQuery {
        name: Some("box".into()),
        ..ListQuery::default()
    };
    let found = world.control.list(&world.caller, by_name).await.unwrap();
    let ids: Vec<_> = found.sandboxes.iter().map(|s| s.id).collect();
    assert_eq!(ids, [again.id, id]);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_and_hide_the_deleted() {
    let world = World::new(9).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let request = CreateRequest {
            metadata: map(&[("n", if n % 2 == 0 { "even" } else { "odd" })]),
            project: (n == 3).then(|| "p".into()),
            ..CreateRequest::default()
        };
        ids.push(world.running_with(request).await);
    }
    world.control.delete(&world.caller, ids[4]).await.unwrap();
    let list = async |query| world.control.list(&world.caller, query).await.unwrap();
    let of = |page: &skerry_control::Page| page.sandboxes.iter().map(|s| s.id).collect::<Vec<_>>();

    let all = list(ListQuery::default()).await;
    assert_eq!(of(&all), [ids[3], ids[2], ids[1], ids[0]]);
    let even = ListQuery {
        metadata: map(&[("n", "even")]),
        ..ListQuery::default()
    };
    assert_eq!(of(&list(even).await), [ids[2], ids[0]]);
    let project = ListQuery {
        project: Some("p".into()),
        ..ListQuery::default()
    };
    assert_eq!(of(&list(project).await), [ids[3]]);
    let deleted = ListQuery {
        status: vec![SandboxState::Deleted],
        ..ListQuery::default()
    };
    assert_eq!(of(&list(deleted).await), [ids[4]]);
    let first = list(ListQuery {
        limit: Some(3),
        ..ListQuery::default()
    })
    .await;
    assert_eq!(of(&first), [ids[3], ids[2], ids[1]]);
    let cursor = first.next_cursor;
    let rest = list(ListQuery {
        limit: Some(3),
        cursor,
        ..ListQuery::default()
    })
    .await;
    assert_eq!((of(&rest), rest.next_cursor), (vec![ids[0]], None));

    for limit in [0, 201] {
        let query = ListQuery {
            limit: Some(limit),
            ..ListQuery::default()
        };
        let refused = world.control.list(&world.caller, query).await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
    let query = ListQuery {
        cursor: Some("junk".into()),
        ..ListQuery::default()
    };
    assert_eq!(
        code(world.control.list(&world.caller, query).await),
        ErrorCode::BadRequest
    );
}

#[tokio::test]
async fn another_org_sees_nothing_and_can_do_nothing() {
    let world = World::new(2).await;
    let id = world.running().await;
    let other = world.stranger(Quotas::DEFAULT).await;
    let c = &world.control;
    let codes = [
        code(c.get(&other, id).await),
        code(c.stop(&other, id).await),
        code(c.delete(&other, id).await),
        code(
            c.fork(&other, id, skerry_control::ForkRequest::default())
                .await,
        ),
        code(c.tree(&other, id).await),
        code(c.pause(&other, id).await),
        code(c.resume(&other, id).await),
        code(c.ping(&other, id).await),
        code(c.set_timeout(&other, id, TimeoutRequest::default()).await),
        code(c.wait_until(&other, id, Until::Ready, PATIENCE).await),
        code(c.authorize(&other, id, Need::Exists).await.map(drop)),
        code(c.authorize(&other, id, Need::Running).await.map(drop)),
        code(c.authorize(&other, id, Need::Journal).await.map(drop)),
    ];
    assert_eq!(codes, [ErrorCode::NotFound; 13]);
    assert!(
        c.list(&other, ListQuery::default())
            .await
            .unwrap()
            .sandboxes
            .is_empty()
    );
    assert_eq!(world.get(id).await.status, SandboxState::Running);
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_half_create() {
    let world = World::new(2).await;
    world.node.breaks(Fault::CreateHangs);
    let control = world.control.clone();
    let caller = world.caller.clone();
    let request =
        tokio::spawn(async move { control.create(&caller, CreateRequest::default()).await });
    tokio::task::yield_now().await;
    request.abort();
    let _gone = request.await;
    world.node.heals(Fault::CreateHangs);
    let all = world
        .control
        .list(&world.caller, ListQuery::default())
        .await
        .unwrap();
    for sandbox in all.sandboxes {
        world.becomes(sandbox.id, SandboxState::Running).await;
    }
}

#[tokio::test]
async fn waiting_ends_with_its_time_and_tells_the_truth() {
    let world = World::new(1).await;
    world.node.breaks(Fault::CreateHangs);
    let id = world.create().await.id;
    let moment = std::time::Duration::from_millis(1);
    let still = world
        .control
        .wait_until(&world.caller, id, Until::Ready, moment)
        .await
        .unwrap();
    assert_eq!(still.status, SandboxState::Provisioning);
    let refused = world
        .control
        .authorize(&world.caller, id, Need::Running)
        .await;
    assert_eq!(code(refused.map(drop)), ErrorCode::SandboxNotRunning);
    let node: Arc<_> = world
        .control
        .authorize(&world.caller, id, Need::Journal)
        .await
        .unwrap();
    drop(node);
}
