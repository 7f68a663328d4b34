//! Lists: filters, pages that stay right while rows are added, cursors that are not ours.

use std::collections::BTreeMap;

use skerry_store::{Cursor, Filter};
use skerry_types::{Action, ErrorCode, SandboxId, SandboxState as S};

use crate::bed::{Bed, LOCAL, at, ids, new_sandbox, on_both_engines};

on_both_engines! {
    filters_narrow,
    metadata_is_matched_literally,
    pages_have_no_gap_and_no_double,
    limits_are_clamped,
}

async fn list(bed: &Bed, filter: Filter) -> Vec<SandboxId> {
    let filter = Filter {
        limit: 50,
        ..filter
    };
    ids(&bed.store.sandboxes(&LOCAL, &filter).await.unwrap().items)
}

async fn filters_narrow(bed: &Bed) {
    bed.node(9).await;
    let running = bed.running(&LOCAL, 0).await.id;
    let gone = bed.running(&LOCAL, 0).await;
    let gone = bed.act(&gone, Action::Delete, 1).await.id;
    let mut other = new_sandbox();
    other.image = "debian:12".into();
    other.name = Some("box".into());
    other.project = Some("p 1".into());
    other.metadata = [("team".to_owned(), "blue".to_owned())].into();
    let queued = other.id;
    bed.store
        .create_sandbox(&LOCAL, other, None, at(2))
        .await
        .unwrap();

    let with_states = |states: &[S]| Filter {
        states: states.to_vec(),
        ..Filter::default()
    };
    assert_eq!(list(bed, Filter::default()).await, [queued, running]);
    assert_eq!(
        list(
            bed,
            Filter {
                states: S::ALL.to_vec(),
                ..Filter::default()
            }
        )
        .await,
        [queued, gone, running],
        "newest first"
    );
    assert_eq!(list(bed, with_states(&[S::Running])).await, [running]);
    assert_eq!(
        list(bed, with_states(&[S::Queued, S::Running])).await,
        [queued, running]
    );
    assert_eq!(list(bed, with_states(&[S::Deleted])).await, [gone]);
    assert_eq!(list(bed, with_states(&[S::Paused])).await, []);
    let texts: [fn(&mut Filter, &str); 3] = [
        |filter, text| filter.image = Some(text.into()),
        |filter, text| filter.name = Some(text.into()),
        |filter, text| filter.project = Some(text.into()),
    ];
    for (set, text) in texts.iter().zip(["debian:12", "box", "p 1"]) {
        let mut filter = Filter::default();
        set(&mut filter, text);
        assert_eq!(list(bed, filter.clone()).await, [queued], "{text}");
        set(&mut filter, "%");
        assert_eq!(list(bed, filter).await, [], "{text}");
    }
    let parent = Filter {
        forked_from: Some(running),
        ..Filter::default()
    };
    assert_eq!(list(bed, parent).await, []);
}

async fn metadata_is_matched_literally(bed: &Bed) {
    let hostile = [
        "$.team",
        "a.b",
        "[0]",
        "x\"y",
        "' OR 1=1 --",
        "%",
        "\u{1F980}",
    ];
    let mut new = new_sandbox();
    new.metadata = hostile.map(|key| (key.to_owned(), key.to_owned())).into();
    let id = new.id;
    bed.store
        .create_sandbox(&LOCAL, new, None, at(0))
        .await
        .unwrap();
    bed.queued(&LOCAL, 0).await;
    let with = |pairs: &[(&str, &str)]| Filter {
        metadata: pairs
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..Filter::default()
    };
    for key in hostile {
        assert_eq!(list(bed, with(&[(key, key)])).await, [id], "{key}");
        assert_eq!(list(bed, with(&[(key, "other")])).await, [], "{key}");
    }
    assert_eq!(list(bed, with(&[("%", "%"), ("a.b", "a.b")])).await, [id]);
    assert_eq!(list(bed, with(&[("%", "%"), ("team", "red")])).await, []);
}

async fn pages_have_no_gap_and_no_double(bed: &Bed) {
    let mut made = Vec::new();
    for _ in 0..120 {
        made.push(bed.queued(&LOCAL, 0).await.id);
    }
    made.reverse();
    let mut filter = Filter {
        limit: 50,
        ..Filter::default()
    };
    let mut seen = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let page = bed.store.sandboxes(&LOCAL, &filter).await.unwrap();
        sizes.push(page.items.len());
        seen.extend(ids(&page.items));
        bed.queued(&LOCAL, 1).await;
        let Some(next) = page.next else { break };
        filter.cursor = Some(next.to_string().parse().unwrap());
    }
    assert_eq!(sizes, [50, 50, 20]);
    assert_eq!(seen, made);
}

async fn limits_are_clamped(bed: &Bed) {
    for _ in 0..3 {
        bed.queued(&LOCAL, 0).await;
    }
    for (limit, shown) in [(0, 1), (1, 1), (3, 3), (u32::MAX, 3)] {
        let filter = Filter {
            limit,
            ..Filter::default()
        };
        let page = bed.store.sandboxes(&LOCAL, &filter).await.unwrap();
        assert_eq!(page.items.len(), shown, "limit {limit}");
        assert_eq!(page.next.is_some(), shown < 3, "limit {limit}");
    }
}

#[test]
fn a_cursor_that_is_not_ours_is_a_bad_request() {
    for text in [
        "",
        "c",
        "c0",
        "x0000000000000000000000",
        "czzzzzzzzzzzzzzzzzzzzzz",
        "c\0",
    ] {
        let error = text.parse::<Cursor>().unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest, "{text:?}");
    }
}
