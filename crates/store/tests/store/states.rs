//! A sandbox's row through its life: what each change writes, and what reconcilers then find due.

use jiff::Timestamp;
use skerry_store::{
    Cas, Change, Facts, Network, NewFork, NewSandbox, OnTimeout, Privilege, Quotas, Sandbox,
    StoreError, Times,
};
use skerry_types::{
    Action, ErrorCode, FailureReason, Profile, PublishedPort, SandboxId, SandboxState as S,
};

use crate::bed::{Bed, LOCAL, SYSTEM, at, new_sandbox, on_both_engines};

on_both_engines! {
    a_row_keeps_what_was_asked,
    a_life_from_create_to_delete,
    what_has_ended_begins_again,
    beginning_again_is_within_limits,
    the_guard_is_the_state_that_was_read,
    what_does_not_fit_changes_nothing,
    age_limits_and_warnings,
    use_is_noted,
    a_new_timeout,
    a_name_is_for_one_living_sandbox_of_an_org,
    text_that_cannot_be_kept,
}

async fn a_row_keeps_what_was_asked(bed: &Bed) {
    let node = bed.node(1).await;
    let mut new = new_sandbox();
    new.profile = Some(Profile::Medium);
    new.resources = Profile::Medium.resources();
    new.wanted.privilege = Some(Privilege::Root);
    new.wanted.driver = Some("ns".into());
    new.wanted.isolation = Some("namespace".into());
    new.name = Some("a name".into());
    new.project = Some("a project".into());
    new.region = "eu".into();
    new.network = Network::None;
    new.metadata
        .insert("\"$.[]'%\u{1F980}".into(), "\\'".into());
    let made = bed
        .store
        .create_sandbox(&LOCAL, new.clone(), Some(node), at(0))
        .await
        .unwrap();
    assert_eq!(bed.store.sandbox(&LOCAL, new.id).await.unwrap(), made);
    assert_eq!(made.state, S::Provisioning);
    assert_eq!(made.node_id, Some(node));
    assert_eq!((made.org_id, made.id), (LOCAL.org(), new.id));
    assert_eq!((&made.name, &made.image), (&new.name, &new.image));
    assert_eq!((made.profile, made.resources), (new.profile, new.resources));
    assert_eq!(
        (&made.wanted, &made.facts),
        (&new.wanted, &Facts::default())
    );
    assert_eq!((&made.project, &made.region), (&new.project, &new.region));
    assert_eq!(made.network, Network::None);
    assert_eq!(made.metadata, new.metadata);
    assert_eq!(made.env_names, new.env_names);
    assert_eq!((made.ttl_seconds, made.idle_seconds), (3600, 900));
    assert_eq!((made.created_at, made.updated_at), (at(0), at(0)));
    assert_eq!((made.started_at, made.expires_at), (None, None));
    new.name = None;
    let again = bed.store.create_sandbox(&LOCAL, new, None, at(1)).await;
    assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
}

async fn a_life_from_create_to_delete(bed: &Bed) {
    let node = bed.node(1).await;
    let made = bed
        .store
        .create_sandbox(&LOCAL, new_sandbox(), Some(node), at(0))
        .await
        .unwrap();
    let change = Change {
        facts: Facts {
            driver: Some("vm".into()),
            isolation: Some("vm".into()),
            accelerator: Some("tcg".into()),
            privilege: Some(Privilege::Restricted),
            storage: Some("btrfs".into()),
            disk_quota: Some(true),
            limits: Some(false),
            image_digest: Some("sha256:00".into()),
            fork_kind: None,
            boot_us: Some(1234),
            published: Some(vec![PublishedPort {
                port: 3000,
                address: "[::1]:8000".parse().unwrap(),
            }]),
        },
        ..Change::default()
    };
    let Cas::Done(runs) = bed
        .store
        .transition(&LOCAL, &made, Action::Ready, &change, at(2))
        .await
        .unwrap()
    else {
        panic!("nobody else changes it");
    };
    assert_eq!(runs.facts, change.facts);
    assert_eq!(runs.started_at, Some(at(2)));
    assert_eq!(runs.last_active_at, at(2));
    assert_eq!(runs.expires_at, Some(at(3602)));

    let paused = bed.act(&runs, Action::Pause, 3).await;
    let resumed = bed.act(&paused, Action::Resume, 4).await;
    assert_eq!(resumed.started_at, Some(at(2)), "it started once");
    assert_eq!(resumed.expires_at, Some(at(3602)), "its age goes on");
    assert_eq!(resumed.facts, change.facts);

    let why = Change {
        reason: Some(FailureReason::IdleTimeout),
        message: Some("unused".into()),
        ..Change::default()
    };
    let stopping = bed
        .store
        .act(&LOCAL, made.id, Action::Stop, &why, at(5))
        .await
        .unwrap();
    assert_eq!((stopping.state, stopping.ended_at), (S::Stopping, None));
    let stopped = bed.act(&stopping, Action::Ended, 6).await;
    assert_eq!(stopped.ended_at, Some(at(6)));
    assert_eq!(stopped.failure_reason, Some(FailureReason::IdleTimeout));
    assert_eq!(bed.act(&stopped, Action::Stop, 7).await, stopped);
    let gone = bed.act(&stopped, Action::Delete, 8).await;
    assert_eq!((gone.ended_at, gone.deleted_at), (Some(at(6)), Some(at(8))));
    assert_eq!(gone.failure_message.as_deref(), Some("unused"));
    assert_eq!(bed.act(&gone, Action::Delete, 9).await, gone);

    let before = at(8);
    assert_eq!(bed.store.purge_deleted(&SYSTEM, before).await.unwrap(), 0);
    assert_eq!(bed.store.purge_deleted(&SYSTEM, at(9)).await.unwrap(), 1);
    let absent = bed.store.sandbox(&LOCAL, made.id).await;
    assert!(matches!(absent, Err(StoreError::NotFound(_))));
}

async fn what_has_ended_begins_again(bed: &Bed) {
    bed.node(1).await;
    let runs = bed.running(&LOCAL, 0).await;
    bed.store.mark_ttl_warned(&LOCAL, runs.id).await.unwrap();
    bed.act(&runs, Action::Stop, 1).await;
    bed.act(&runs, Action::Ended, 2).await;
    let begun = bed.store.start_sandbox(&LOCAL, runs.id, at(10)).await;
    let begun = begun.unwrap();
    let expected = Sandbox {
        state: S::Provisioning,
        expires_at: None,
        last_active_at: at(10),
        updated_at: at(10),
        ..runs.clone()
    };
    assert_eq!(begun, expected, "the end is forgotten, the rest stays");
    assert_eq!(bed.held(skerry_store::LOCAL_NODE).await, 1);
    let again = bed.act(&begun, Action::Ready, 12).await;
    let times = (again.started_at, again.expires_at, again.ended_at);
    assert_eq!(times, (Some(at(12)), Some(at(3612)), None), "ages anew");
    let twice = bed.store.start_sandbox(&LOCAL, runs.id, at(13)).await;
    assert_eq!(twice.unwrap(), again, "it runs already");
    let failed = bed.act(&again, Action::Fail, 14).await;
    assert_eq!(failed.ended_at, Some(at(14)));
    bed.store
        .start_sandbox(&LOCAL, runs.id, at(15))
        .await
        .unwrap();
}

async fn beginning_again_is_within_limits(bed: &Bed) {
    bed.node(2).await;
    let quotas = Quotas {
        max_concurrent_sandboxes: 2,
        ..Quotas::DEFAULT
    };
    let org = bed.org("small", quotas).await;
    let other = bed.org("other", Quotas::DEFAULT).await;
    let (start, as_it_is) = (Action::Start, Change::default());
    let start = async |tenant, id| bed.store.act(tenant, id, start, &as_it_is, at(9)).await;
    let named = NewSandbox {
        name: Some("box".into()),
        ..new_sandbox()
    };
    let node = Some(skerry_store::LOCAL_NODE);
    let named = bed.store.create_sandbox(&org, named, node, at(0)).await;
    let named = bed.act(&named.unwrap(), Action::Ready, 1).await;
    bed.act(&named, Action::Fail, 2).await;
    let absent = start(&other, named.id).await;
    assert!(matches!(absent, Err(StoreError::NotFound(_))), "{absent:?}");

    let namesake = NewSandbox {
        name: Some("box".into()),
        ..new_sandbox()
    };
    let namesake = bed.store.create_sandbox(&org, namesake, None, at(3)).await;
    let namesake = namesake.unwrap();
    let taken = start(&org, named.id).await;
    assert!(matches!(taken, Err(StoreError::NameTaken(_))), "{taken:?}");
    let queued = bed.queued(&org, 4).await;
    let full = start(&org, named.id).await;
    assert!(
        matches!(full, Err(StoreError::Quota { limit: 2 })),
        "{full:?}"
    );
    for waiting in [queued, namesake] {
        let stopped = bed.act(&waiting, Action::Stop, 5).await;
        let never = start(&org, stopped.id).await;
        assert!(matches!(never, Err(StoreError::NeverRan)), "{never:?}");
    }
    for _ in 0..2 {
        bed.running(&other, 6).await;
    }
    let full = start(&org, named.id).await;
    assert!(matches!(full, Err(StoreError::NoCapacity)), "{full:?}");
    let as_before = bed.store.sandbox(&org, named.id).await.unwrap();
    assert_eq!(as_before.state, S::Failed);
}

async fn the_guard_is_the_state_that_was_read(bed: &Bed) {
    bed.node(1).await;
    let runs = bed.running(&LOCAL, 0).await;
    let stopping = bed.act(&runs, Action::Stop, 1).await;
    let late = bed
        .store
        .transition(&LOCAL, &runs, Action::Pause, &Change::default(), at(2))
        .await
        .unwrap();
    assert_eq!(late, Cas::Stale(stopping));
}

async fn what_does_not_fit_changes_nothing(bed: &Bed) {
    let queued = bed.queued(&LOCAL, 0).await;
    let error = bed
        .store
        .act(&LOCAL, queued.id, Action::Pause, &Change::default(), at(1))
        .await
        .unwrap_err();
    assert_eq!(skerry_types::Error::from(error).code, ErrorCode::Conflict);
    assert_eq!(bed.store.sandbox(&LOCAL, queued.id).await.unwrap(), queued);
    let nobody = SandboxId::new();
    let error = bed
        .store
        .act(&LOCAL, nobody, Action::Stop, &Change::default(), at(1))
        .await
        .unwrap_err();
    assert_eq!(skerry_types::Error::from(error).code, ErrorCode::NotFound);
}

async fn age_limits_and_warnings(bed: &Bed) {
    bed.node(9).await;
    let store = &bed.store;
    let runs = bed.running(&LOCAL, 0).await;
    let mut ageless = new_sandbox();
    ageless.ttl_seconds = 0;
    let ageless = store
        .create_sandbox(&LOCAL, ageless, Some(skerry_store::LOCAL_NODE), at(0))
        .await
        .unwrap();
    assert_eq!(bed.act(&ageless, Action::Ready, 0).await.expires_at, None);
    assert_eq!(runs.expires_at, Some(at(3600)));
    assert!(store.mark_ttl_warned(&LOCAL, runs.id).await.unwrap());
    assert!(!store.mark_ttl_warned(&LOCAL, runs.id).await.unwrap());
}

async fn use_is_noted(bed: &Bed) {
    bed.node(9).await;
    let store = &bed.store;
    let used = bed.running(&LOCAL, 0).await;
    store.touch(&LOCAL, used.id, at(500)).await.unwrap();
    store.touch(&LOCAL, used.id, at(3)).await.unwrap();
    let row = store.sandbox(&LOCAL, used.id).await.unwrap();
    assert_eq!(row.last_active_at, at(500), "never backwards");
}

fn age(seconds: u32, end: Option<Timestamp>) -> Times {
    Times {
        ttl: Some((seconds, end)),
        ..Times::default()
    }
}

async fn a_new_timeout(bed: &Bed) {
    bed.node(1).await;
    let store = &bed.store;
    let runs = bed.running(&LOCAL, 0).await;
    store.mark_ttl_warned(&LOCAL, runs.id).await.unwrap();
    let longer = store
        .set_timeout(&LOCAL, runs.id, age(7200, Some(at(7200))), at(1))
        .await
        .unwrap();
    assert_eq!(longer.expires_at, Some(at(7200)));
    assert_eq!((longer.ttl_seconds, longer.ttl_warned), (7200, false));
    assert_eq!((longer.idle_seconds, longer.last_active_at), (900, at(0)));
    store.mark_ttl_warned(&LOCAL, runs.id).await.unwrap();
    let idle = Times {
        idle_seconds: Some(0),
        on_timeout: Some(OnTimeout::Pause),
        ..Times::default()
    };
    let changed = store
        .set_timeout(&LOCAL, runs.id, idle, at(2))
        .await
        .unwrap();
    let expected = Sandbox {
        idle_seconds: 0,
        on_timeout: OnTimeout::Pause,
        last_active_at: at(2),
        ttl_warned: true,
        updated_at: at(2),
        ..longer
    };
    assert_eq!(changed, expected, "what is not given stays");
    let times = |on_timeout, on_idle, auto_resume| Times {
        on_timeout,
        on_idle,
        auto_resume,
        ..Times::default()
    };
    let set = async |times| {
        let set = store.set_timeout(&LOCAL, runs.id, times, at(2)).await;
        let set = set.unwrap();
        (set.on_timeout, set.on_idle, set.auto_resume)
    };
    let (stop, pause) = (OnTimeout::Stop, OnTimeout::Pause);
    let differs = set(times(Some(stop), Some(pause), Some(true))).await;
    assert_eq!(differs, (stop, Some(pause), true));
    assert_eq!(set(times(None, None, None)).await, differs);
    let alike = set(times(Some(pause), None, Some(false))).await;
    assert_eq!(alike, (pause, None, false));
    let stopping = bed.act(&runs, Action::Stop, 2).await;
    let late = store
        .set_timeout(&LOCAL, runs.id, age(1, None), at(3))
        .await
        .unwrap_err();
    assert!(matches!(late, StoreError::NotRunning(S::Stopping)));
    assert_eq!(store.sandbox(&LOCAL, runs.id).await.unwrap(), stopping);
}

async fn a_name_is_for_one_living_sandbox_of_an_org(bed: &Bed) {
    bed.node(9).await;
    let named = || NewSandbox {
        name: Some("box".into()),
        ..new_sandbox()
    };
    let create =
        |tenant, new| async move { bed.store.create_sandbox(&tenant, new, None, at(0)).await };
    let parent = bed.running(&LOCAL, 0).await;
    let first = create(LOCAL, named()).await.unwrap();
    let other = bed.org("other", Quotas::DEFAULT).await;
    create(other, named()).await.unwrap();
    let taken = |result: Result<Sandbox, StoreError>| {
        assert!(matches!(&result, Err(StoreError::NameTaken(name)) if name == "box"));
        let error = skerry_types::Error::from(result.unwrap_err());
        assert_eq!(error.code, ErrorCode::Conflict);
    };
    taken(create(LOCAL, named()).await);
    let fork = || NewFork {
        name: Some("box".into()),
        ..crate::forks::new_fork()
    };
    taken(
        bed.store
            .fork_sandbox(&LOCAL, parent.id, fork(), at(1))
            .await,
    );
    bed.act(&first, Action::Fail, 2).await;
    let again = bed
        .store
        .fork_sandbox(&LOCAL, parent.id, fork(), at(3))
        .await;
    assert_eq!(again.unwrap().name.as_deref(), Some("box"));
    taken(create(LOCAL, named()).await);
}

/// `SQLite` keeps a NUL and PostgreSQL does not; neither answers with a fault of ours.
async fn text_that_cannot_be_kept(bed: &Bed) {
    let mut new = new_sandbox();
    new.image = "a\0b".into();
    let id = new.id;
    match bed.store.create_sandbox(&LOCAL, new, None, at(0)).await {
        Ok(made) => assert_eq!(made.image, "a\0b"),
        Err(error) => {
            let error = skerry_types::Error::from(error);
            assert_eq!(error.code, ErrorCode::ValidationError);
            assert!(bed.store.sandbox(&LOCAL, id).await.is_err());
        }
    }
}
