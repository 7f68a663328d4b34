//! `snapshot` and `rollback`: files as they were.

use crate::bed::Bed;

#[test]
fn a_snapshot_is_a_source_and_a_way_back() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    bed.ok(&["exec", "b", "echo then >file; echo old >gone"]);
    let id = bed.ok(&["snapshot", "create", "b", "--name", "ready"]);
    bed.ok(&["exec", "b", "echo later >file; rm gone; sleep 1000 &"]);

    for source in ["ready", &id] {
        let made = bed.ok(&["create", "--image", source]);
        assert_eq!(bed.ok(&["exec", &made, "cat file gone"]), "then\nold");
        assert_eq!(bed.json(&["get", &made])["image"], *id);
    }
    let listed = bed.json(&["snapshot", "ls", "b"]);
    assert_eq!(
        (&listed[0]["snapshot_id"], &listed[0]["name"]),
        (&(*id).into(), &"ready".into())
    );
    assert_eq!(
        bed.run(&["snapshot", "create", "b", "--name", "ready"])
            .code,
        1
    );

    bed.ok(&["rollback", "b", "ready"]);
    assert_eq!(bed.ok(&["exec", "b", "cat file gone"]), "then\nold");
    let kinds = bed.ok(&["events", "b"]);
    assert!(
        kinds.contains("sandbox.snapshot") && kinds.contains("sandbox.rolled_back"),
        "{kinds}"
    );

    let newer = bed.ok(&["snapshot", "create", "b", "--name", "ready", "--overwrite"]);
    assert_ne!(newer, id);
    assert_eq!(
        bed.run(&["create", "--image", &id]).code,
        2,
        "it was overwritten"
    );
    bed.ok(&["rm", "b"]);
    assert_eq!(
        bed.ok(&["create", "--image", "ready", "--name", "late"])
            .len(),
        25
    );
    bed.ok(&["snapshot", "rm", "ready"]);
    assert_eq!(bed.json(&["snapshot", "ls"]), serde_json::json!([]));
    assert_eq!(
        bed.ok(&["exec", "late", "cat file"]),
        "then",
        "what was made from it lives on"
    );
}
