//! What may be asked of a new sandbox: all of it is shown, and other systems' names for it are understood.

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn what_was_asked_is_shown_in_every_answer() {
    let world = World::new().await;
    let asked = json!({
        "image": "base", "profile": "medium", "vcpus": 2, "memory_mb": 700, "disk_mb": 2000, "pids": 99,
        "ttl_seconds": 77, "idle_seconds": 0, "on_timeout": "delete", "on_idle": "pause", "auto_resume": true, "keep_paused": true,
        "queue_timeout_seconds": 9,
        "metadata": {"team": "a"}, "name": "box", "project": "p 1", "region": "local",
        "network": "none", "privilege": "root", "driver": "sim", "isolation": "none",
    });
    let mut request = asked.clone();
    request["env"] = json!({"TOKEN": "hidden-value"});
    let made = world.post("/v1/sandboxes", request).await;
    assert_eq!(made.status, 201);
    let id = made.json()["sandbox_id"].as_str().unwrap().to_owned();
    let got = world.get(&format!("/v1/sandboxes/{id}")).await;
    let list = world.get("/v1/sandboxes?name=box").await;
    for (what, record) in [
        ("create", made.json()),
        ("get", got.json()),
        ("list", list.json()["sandboxes"][0].clone()),
    ] {
        for (field, value) in asked.as_object().unwrap() {
            assert_eq!(&record[field], value, "{what} {field}");
        }
        assert_eq!(record["env_names"], json!(["TOKEN"]), "{what}");
        assert!(!record.to_string().contains("hidden-value"), "{what}");
    }
    assert_eq!(got.json()["facts"]["accelerator"], "tcg");
    let taken = world.post("/v1/sandboxes", json!({"name": "box"})).await;
    assert_eq!((taken.status, taken.code()), (409, "conflict".into()));
}

#[tokio::test]
async fn who_says_what_is_allowed_denies_the_rest() {
    let world = World::new().await;
    let asked = json!({"network": "nat", "egress": {"allow": ["Example.ORG", "192.0.2.7/32"]}});
    let made = world.post("/v1/sandboxes", asked).await.json();
    let shown = json!({"allow": ["example.org", "192.0.2.7"], "deny": ["0.0.0.0/0"]});
    assert_eq!(made["egress"], shown);
    let path = format!("/v1/sandboxes/{}", made["sandbox_id"].as_str().unwrap());
    let egress = format!("{path}/egress");
    for (rules, shown) in [
        (
            json!({"deny": ["192.0.2.0/24"]}),
            json!({"allow": [], "deny": ["192.0.2.0/24"]}),
        ),
        (
            json!({"allow": ["a.b"], "deny": []}),
            json!({"allow": ["a.b"], "deny": []}),
        ),
        (json!({}), json!({"allow": [], "deny": []})),
    ] {
        let changed = world.put(&egress, rules).await;
        assert_eq!((changed.status, &changed.json()["egress"]), (200, &shown));
        assert_eq!(world.get(&path).await.json()["egress"], shown);
    }
}

#[tokio::test]
async fn other_names_for_the_same_are_understood() {
    let world = World::new().await;
    for (at, image) in ["image", "template", "template_id", "templateID"]
        .iter()
        .enumerate()
    {
        let alias = format!("box-{at}");
        let made = world
            .post("/v1/sandboxes", json!({*image: "base", "alias": alias}))
            .await
            .json();
        assert_eq!(
            (&made["image"], &made["name"]),
            (&json!("base"), &json!(alias))
        );
    }
}

#[tokio::test]
async fn a_fork_and_a_new_timeout_change_what_they_name() {
    let world = World::new().await;
    let parent =
        json!({"metadata": {"team": "a", "step": "1"}, "project": "p", "idle_seconds": 50});
    let parent = world.post("/v1/sandboxes", parent).await.json();
    let path = |record: &Value| format!("/v1/sandboxes/{}", record["sandbox_id"].as_str().unwrap());
    let body =
        json!({"name": "child", "ttl_seconds": 60, "env": {"A": "1"}, "metadata": {"step": "2"}});
    let child = world.post(&format!("{}/fork", path(&parent)), body).await;
    assert_eq!(child.status, 201);
    let child = child.json();
    assert_eq!(child["metadata"], json!({"team": "a", "step": "2"}));
    assert_eq!(
        (&child["name"], &child["project"]),
        (&json!("child"), &json!("p"))
    );
    assert_eq!(
        (&child["ttl_seconds"], &child["env_names"]),
        (&json!(60), &json!(["A"]))
    );
    let timeout = format!("{}/timeout", path(&child));
    let changed = world
        .post(&timeout, json!({"idle_seconds": 0, "on_timeout": "pause"}))
        .await
        .json();
    assert_eq!(
        (&changed["idle_seconds"], &changed["on_timeout"]),
        (&json!(0), &json!("pause"))
    );
    assert_eq!(
        (&changed["on_idle"], &changed["auto_resume"]),
        (&json!("pause"), &json!(false))
    );
    let sleeps = json!({"on_timeout": "stop", "on_idle": "pause", "auto_resume": true});
    let changed = world.post(&timeout, sleeps.clone()).await.json();
    for (field, value) in sleeps.as_object().unwrap() {
        assert_eq!(&changed[field], value, "{field}");
    }
    assert_eq!(changed["expires_at"], child["expires_at"]);
    let sooner = json!({"ttl_seconds": 1, "only_longer": true});
    let changed = world.post(&timeout, sooner).await.json();
    assert_eq!(changed["expires_at"], child["expires_at"]);
    assert_eq!(world.get(&path(&child)).await.json()["idle_seconds"], 0);
}

#[tokio::test]
async fn lists_go_in_either_order_and_by_start_and_template() {
    let world = World::new().await;
    let (one, two) = (world.sandbox().await, world.sandbox().await);
    let listed = async |query: &str| {
        let page = world.get(&format!("/v1/sandboxes?{query}")).await.json();
        let found = page["sandboxes"].as_array().unwrap().iter();
        let paths =
            found.map(|one| format!("/v1/sandboxes/{}", one["sandbox_id"].as_str().unwrap()));
        paths.collect::<Vec<_>>()
    };
    assert_eq!(listed("first=oldest").await, [one.clone(), two.clone()]);
    assert_eq!(listed("first=newest").await, [two.clone(), one.clone()]);
    assert_eq!(
        listed("started_after=2020-01-01T00:00:00Z").await,
        [two, one]
    );
    assert!(
        listed("started_after=2100-01-01T00:00:00Z")
            .await
            .is_empty()
    );
    assert!(listed("template=unheard-of").await.is_empty());
    assert_eq!(world.get("/v1/sandboxes?first=best").await.status, 400);
}
