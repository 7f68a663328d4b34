//! Templates: one end for each build, tags that stand for finished ones, and layers that nobody needs.

use jiff::SignedDuration;
use skerry_store::{
    Build, BuildEnd, BuildStatus, Defaults, LogLine, Promise, Quotas, TakenSnapshot, Tenant,
};
use skerry_types::{BuildId, SnapshotId};
use tokio::task::JoinSet;

use crate::bed::{Bed, LOCAL, SYSTEM, at, on_both_engines};
use crate::snapshots::running;

on_both_engines! {
    a_tag_stands_for_the_last_build_that_was_ready,
    a_build_ends_once,
    builds_that_end_at_once_share_their_tags,
    no_build_is_begun_of_a_template_that_goes,
    a_promise_is_kept_once_and_for_a_time,
    old_builds_are_forgotten,
    a_log_is_read_on_from_anywhere,
    layers_go_when_nobody_needs_them,
    templates_of_another_org_do_not_exist,
}

async fn begin(bed: &Bed, tenant: &Tenant, name: &str, tag: &str) -> Build {
    let template = bed.store.put_template(tenant, name, at(0)).await.unwrap();
    let tags = [tag.to_owned()];
    let id = BuildId::new();
    let begun = bed
        .store
        .begin_build(tenant, id, template.id, &tags, "me", at(1));
    let begun = begun.await.unwrap().unwrap();
    assert_eq!(
        (begun.status, &begun.tags[..]),
        (BuildStatus::Waiting, &tags[..])
    );
    begun
}

async fn end(bed: &Bed, tenant: &Tenant, build: &Build, end: BuildEnd) -> bool {
    bed.store
        .end_build(tenant, build.id, end, at(3))
        .await
        .unwrap()
}

fn ready() -> BuildEnd {
    let defaults = Defaults {
        workdir: "/srv".into(),
        env_names: vec!["A".into()],
        ports: vec![80],
        ..Defaults::default()
    };
    BuildEnd::Ready(SnapshotId::new(), defaults)
}

async fn builds_that_end_at_once_share_their_tags(bed: &Bed) {
    let template = bed.store.put_template(&LOCAL, "app", at(0)).await.unwrap();
    let mut tags: Vec<String> = (0..50).map(|n| format!("v{n}")).collect();
    let mut ends = JoinSet::new();
    for _ in 0..4 {
        tags.reverse();
        let id = BuildId::new();
        let begun = bed
            .store
            .begin_build(&LOCAL, id, template.id, &tags, "me", at(1));
        begun.await.unwrap().unwrap();
        let store = bed.store.clone();
        ends.spawn(async move { store.end_build(&LOCAL, id, ready(), at(3)).await });
    }
    for ended in ends.join_all().await {
        assert!(ended.unwrap());
    }
}

async fn no_build_is_begun_of_a_template_that_goes(bed: &Bed) {
    for n in 0..20 {
        let name = format!("app-{n}");
        let template = bed.store.put_template(&LOCAL, &name, at(0)).await.unwrap();
        let begin = bed
            .store
            .begin_build(&LOCAL, BuildId::new(), template.id, &[], "me", at(1));
        let delete = bed.store.delete_template(&LOCAL, template.id);
        let (begun, deleted) = tokio::join!(begin, delete);
        assert_eq!(begun.unwrap().is_none(), deleted.unwrap(), "{n}");
    }
}

async fn a_promise_is_kept_once_and_for_a_time(bed: &Bed) {
    let stranger = bed.org("stranger", Quotas::DEFAULT).await;
    let template = bed.store.put_template(&LOCAL, "app", at(0)).await.unwrap();
    let promise = || Promise {
        build: BuildId::new(),
        template: template.id,
        name: "app:v1".into(),
        tags: vec!["v2".into()],
        vcpus: Some(2),
        memory_mb: None,
        until: at(100),
    };
    let (one, two) = (promise(), promise());
    let put = async |promise: Promise, second| {
        let put = bed.store.put_promise(&LOCAL, &promise, 2, at(second));
        put.await.unwrap()
    };
    for promise in [&one, &two] {
        assert!(put(promise.clone(), 1).await);
    }
    assert!(!put(promise(), 99).await, "no more than two");
    let take = async |tenant, build, second| {
        let taken = bed
            .store
            .take_promise(tenant, template.id, build, at(second));
        taken.await.unwrap()
    };
    assert_eq!(take(&stranger, one.build, 2).await, None);
    assert_eq!(take(&LOCAL, two.build, 100).await, None, "too late");
    assert_eq!(take(&LOCAL, one.build, 99).await.as_ref(), Some(&one));
    assert_eq!(take(&LOCAL, one.build, 99).await, None);
    assert!(put(promise(), 99).await);
    assert!(put(promise(), 100).await, "old ones are forgotten");
}

async fn a_tag_stands_for_the_last_build_that_was_ready(bed: &Bed) {
    let tagged = async |tag| bed.store.tagged(&LOCAL, "app", tag).await.unwrap();
    let first = begin(bed, &LOCAL, "app", "v1").await;
    assert_eq!(tagged("v1").await, None);
    assert!(end(bed, &LOCAL, &first, ready()).await);
    let found = tagged("v1").await.unwrap();
    assert_eq!(
        (
            found.id,
            &*found.defaults.workdir,
            &found.defaults.ports[..]
        ),
        (first.id, "/srv", &[80][..])
    );

    let second = begin(bed, &LOCAL, "app", "v1").await;
    assert_eq!(
        second.template_id, first.template_id,
        "a name is one template"
    );
    assert!(end(bed, &LOCAL, &second, BuildEnd::Error("no".into())).await);
    assert_eq!(
        tagged("v1").await.unwrap().id,
        first.id,
        "a failure changes nothing"
    );
    let third = begin(bed, &LOCAL, "app", "v1").await;
    assert!(
        !bed.store
            .delete_template(&LOCAL, first.template_id)
            .await
            .unwrap(),
        "it is being built"
    );
    assert!(end(bed, &LOCAL, &third, ready()).await);
    assert_eq!(tagged("v1").await.unwrap().id, third.id);
    let builds = bed
        .store
        .builds(&LOCAL, first.template_id, 10)
        .await
        .unwrap();
    let ids: Vec<_> = builds.iter().map(|build| build.id).collect();
    assert_eq!(ids, [third.id, second.id, first.id]);

    assert!(
        bed.store
            .delete_template(&LOCAL, first.template_id)
            .await
            .unwrap()
    );
    assert_eq!(tagged("v1").await, None);
    assert_eq!(bed.store.tags(&LOCAL, None).await.unwrap(), []);
    let late = bed
        .store
        .begin_build(&LOCAL, BuildId::new(), first.template_id, &[], "me", at(9));
    assert_eq!(late.await.unwrap(), None);
}

async fn old_builds_are_forgotten(bed: &Bed) {
    let tagged = begin(bed, &LOCAL, "app", "v1").await;
    assert!(end(bed, &LOCAL, &tagged, ready()).await);
    let mut kept = vec![tagged.id];
    for number in 0..4 {
        let build = begin(bed, &LOCAL, "app", "v2").await;
        let line = LogLine {
            seq: 1,
            ts: at(1),
            level: "info".into(),
            step: None,
            message: "x".into(),
        };
        bed.store
            .append_log(&LOCAL, build.id, &[line])
            .await
            .unwrap();
        if number > 0 {
            assert!(end(bed, &LOCAL, &build, BuildEnd::Error("no".into())).await);
        }
        // The first goes on, and the newest two are kept.
        if number != 1 {
            kept.push(build.id);
        }
        bed.store
            .trim_builds(&LOCAL, tagged.template_id, 2)
            .await
            .unwrap();
    }
    let template = tagged.template_id;
    let left = bed.store.builds(&LOCAL, template, 10).await.unwrap();
    let mut left: Vec<_> = left.iter().map(|build| build.id).collect();
    left.reverse();
    assert_eq!(left, kept);
    let log = bed.store.build_log(&LOCAL, kept[1], 0, 10).await.unwrap();
    assert_eq!(log.len(), 1);
}

async fn a_build_ends_once(bed: &Bed) {
    let build = begin(bed, &LOCAL, "app", "v1").await;
    let open = async || bed.store.open_builds(&SYSTEM, "me").await.unwrap().len();
    assert_eq!(open().await, 1);
    let started = bed
        .store
        .start_build(&LOCAL, build.id, at(2))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (started.status, started.started_at),
        (BuildStatus::Building, Some(at(2)))
    );
    bed.store
        .note_build(&LOCAL, build.id, Some(("RUN x", Some(1))), None)
        .await
        .unwrap();
    assert!(end(bed, &LOCAL, &build, BuildEnd::Error("cancelled".into())).await);
    assert!(!end(bed, &LOCAL, &build, ready()).await);
    assert_eq!(
        bed.store
            .start_build(&LOCAL, build.id, at(2))
            .await
            .unwrap(),
        None
    );
    bed.store
        .note_build(&LOCAL, build.id, Some(("RUN y", Some(2))), None)
        .await
        .unwrap();
    let ended = bed.store.build(&LOCAL, build.id).await.unwrap().unwrap();
    assert_eq!(
        (ended.status, ended.ended_at),
        (BuildStatus::Error, Some(at(3)))
    );
    assert_eq!(
        (ended.step.as_deref(), ended.reason.as_deref()),
        (Some("RUN x"), Some("cancelled"))
    );
    assert_eq!(
        (open().await, bed.store.tags(&LOCAL, None).await.unwrap()),
        (0, vec![])
    );
}

async fn a_log_is_read_on_from_anywhere(bed: &Bed) {
    let build = begin(bed, &LOCAL, "app", "v1").await;
    let lines: Vec<_> = (1..=5)
        .map(|seq| LogLine {
            seq,
            ts: at(seq as i64),
            level: "info".into(),
            step: (seq > 1).then(|| "RUN ü".into()),
            message: format!("line {seq}"),
        })
        .collect();
    bed.store.append_log(&LOCAL, build.id, &[]).await.unwrap();
    bed.store
        .append_log(&LOCAL, build.id, &lines[..3])
        .await
        .unwrap();
    bed.store
        .append_log(&LOCAL, build.id, &lines[3..])
        .await
        .unwrap();
    let read = async |after, limit| {
        bed.store
            .build_log(&LOCAL, build.id, after, limit)
            .await
            .unwrap()
    };
    assert_eq!(read(0, 10).await, lines);
    assert_eq!(read(1, 2).await, lines[1..3]);
    assert_eq!(read(u64::MAX, 2).await, []);
}

/// A snapshot that a build took.
async fn layer(bed: &Bed, key: u8, seconds: i64) -> SnapshotId {
    let of = running(bed).await;
    let id = SnapshotId::new();
    bed.store
        .begin_layer(&LOCAL, id, [key; 32], &Defaults::default(), at(seconds))
        .await
        .unwrap();
    bed.store
        .begin_snapshot(&LOCAL, id, None, &of, at(seconds))
        .await
        .unwrap();
    assert_eq!(
        bed.store.use_layer(&LOCAL, [key; 32], at(0)).await.unwrap(),
        None,
        "not before it is there"
    );
    let taken = TakenSnapshot {
        memory: false,
        bytes: 1,
        held_us: 1,
    };
    bed.store
        .finish_snapshot(&LOCAL, id, taken, None, at(seconds))
        .await
        .unwrap();
    id
}

async fn layers_go_when_nobody_needs_them(bed: &Bed) {
    bed.node(9).await;
    let (old, tagged, used, new) = (
        layer(bed, 1, 10).await,
        layer(bed, 2, 10).await,
        layer(bed, 3, 10).await,
        layer(bed, 4, 100).await,
    );
    let build = begin(bed, &LOCAL, "app", "v1").await;
    let made = BuildEnd::Ready(tagged, Defaults::default());
    assert!(end(bed, &LOCAL, &build, made).await);
    let found = bed.store.use_layer(&LOCAL, [3; 32], at(90)).await.unwrap();
    assert_eq!(found.map(|(snapshot, _)| snapshot.id), Some(used));
    let superfluous = async |keep, before| {
        let found = bed
            .store
            .superfluous_layers(&SYSTEM, keep, before)
            .await
            .unwrap();
        let mut ids: Vec<_> = found.into_iter().map(|(_, snapshot)| snapshot.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(superfluous(9, at(50)).await, [old]);
    assert_eq!(superfluous(1, at(0)).await, [old, used]);
    assert_eq!(superfluous(0, at(0)).await, [old, used, new]);
    assert!(bed.store.is_layer(&LOCAL, old).await.unwrap());
    let listed = bed.store.snapshots(&LOCAL, None, None, 10).await.unwrap();
    assert_eq!(listed.items, [], "people do not see them");
    bed.store.forget_snapshot(&LOCAL, old).await.unwrap();
    assert_eq!(
        superfluous(9, at(0) + SignedDuration::from_secs(50)).await,
        []
    );
    assert!(!bed.store.is_layer(&LOCAL, old).await.unwrap());
}

async fn templates_of_another_org_do_not_exist(bed: &Bed) {
    bed.node(9).await;
    let spy = bed.org("spy", Quotas::DEFAULT).await;
    let build = begin(bed, &LOCAL, "app", "v1").await;
    let snapshot = layer(bed, 1, 10).await;
    assert!(end(bed, &LOCAL, &build, ready()).await);
    let (store, template) = (&bed.store, build.template_id);
    assert_eq!(store.template(&spy, template).await.unwrap(), None);
    assert_eq!(store.template_named(&spy, "app").await.unwrap(), None);
    assert_eq!(store.tagged(&spy, "app", "v1").await.unwrap(), None);
    assert_eq!(store.templates(&spy, None, 10).await.unwrap().items, []);
    assert_eq!(store.tags(&spy, Some(template)).await.unwrap(), []);
    assert_eq!(store.builds(&spy, template, 10).await.unwrap(), []);
    assert_eq!(store.build(&spy, build.id).await.unwrap(), None);
    assert_eq!(store.build_log(&spy, build.id, 0, 10).await.unwrap(), []);
    assert_eq!(store.use_layer(&spy, [1; 32], at(5)).await.unwrap(), None);
    assert!(!store.is_layer(&spy, snapshot).await.unwrap());
    assert!(!store.delete_template(&spy, template).await.unwrap());
    let stolen = store.begin_build(&spy, BuildId::new(), template, &[], "me", at(9));
    assert_eq!(stolen.await.unwrap(), None);
    let own = begin(bed, &spy, "app", "v1").await;
    assert_ne!(own.template_id, template, "names are each org's own");
}
