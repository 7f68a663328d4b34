//! Templates: steps in their order, once; one end; nothing left but layers.

use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use skerry_control::recipe::{Recipe, dockerfile};
use skerry_control::{
    Build, BuildPlan, BuildRequest, BuildStatus, CreateRequest, LogLine, Settings,
};
use skerry_store::Quotas;
use skerry_types::{BuildId, ErrorCode, SandboxState};

use crate::fake::Fault;
use crate::world::{World, code, eventually};

fn recipe(file: &str) -> Recipe {
    dockerfile(file, &[("ARG".to_owned(), "1".to_owned())].into())
        .or_else(|_| dockerfile(file, &[].into()))
        .unwrap()
}

fn request(name: &str, recipe: Recipe) -> BuildRequest {
    BuildRequest {
        name: name.to_owned(),
        recipe,
        ..BuildRequest::default()
    }
}

impl World {
    async fn with_uploads() -> (Self, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            uploads: Some(folder.path().to_owned()),
            ..Settings::default()
        };
        (Self::with(9, settings).await, folder)
    }

    async fn begin(&self, name: &str, file: &str) -> Build {
        let begun = self
            .control
            .start_build(&self.caller, request(name, recipe(file)));
        begun.await.unwrap()
    }

    /// The whole log, once it has ended.
    async fn log(&self, name: &str, id: BuildId) -> Vec<LogLine> {
        let log = self.control.build_log(&self.caller, name, id, 0, true);
        log.await.unwrap().try_collect().await.unwrap()
    }

    async fn build(&self, name: &str, file: &str) -> Build {
        let id = self.begin(name, file).await.id;
        self.log(name, id).await;
        self.looked_at(name, id).await
    }

    async fn looked_at(&self, name: &str, id: BuildId) -> Build {
        self.control.build(&self.caller, name, id).await.unwrap()
    }

    /// Nothing that a build needed is there any more.
    fn assert_clean(&self) {
        let left = self.node.started().into_iter().filter(|id| {
            let state = self.node.state(*id);
            state.is_some_and(|state| state != SandboxState::Deleted)
        });
        assert_eq!(left.collect::<Vec<_>>(), []);
    }
}

fn from(name: &str) -> CreateRequest {
    CreateRequest {
        image: Some(name.to_owned()),
        ..CreateRequest::default()
    }
}

#[tokio::test]
async fn a_promised_build_begins_once_after_a_restart_too() {
    let (mut world, _folder) = World::with_uploads().await;
    let plan = BuildPlan {
        name: "app".to_owned(),
        vcpus: Some(2),
        ..BuildPlan::default()
    };
    let promised = world.control.promise_build(&world.caller, plan.clone());
    let id = promised.await.unwrap().build;
    let late = world.control.promise_build(&world.caller, plan);
    let late = late.await.unwrap().build;
    world.restart().await;
    let stranger = world.stranger(Quotas::DEFAULT).await;
    let theirs = world.control.promised_build(&stranger, "app", id).await;
    assert_eq!(code(theirs), ErrorCode::NotFound);
    let kept = world.control.promised_build(&world.caller, "app", id);
    let request = BuildRequest {
        recipe: recipe("FROM base\nRUN one"),
        ..kept.await.unwrap()
    };
    assert_eq!(request.setup.vcpus, Some(2));
    let begun = world.control.start_build(&world.caller, request);
    assert_eq!(begun.await.unwrap().id, id);
    world.log("app", id).await;
    assert_eq!(world.looked_at("app", id).await.status, BuildStatus::Ready);
    world.pass(3600);
    for gone in [id, late] {
        let gone = world.control.promised_build(&world.caller, "app", gone);
        assert_eq!(code(gone.await), ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn steps_are_done_in_order_and_what_they_say_holds() {
    let (world, _folder) = World::with_uploads().await;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    archive.append_data(&mut header, "f", &b"x"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let hash: String = Sha256::digest(&archive)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let mut recipe = recipe(
        "FROM base\nARG ARG\nENV PATH=/opt:$PATH A=$ARG\nWORKDIR src\nUSER root\nCOPY --chown=me f .\nRUN one\nUSER me\nRUN [\"two\", \"$A\"]\nCMD serve",
    );
    let begun = world
        .control
        .start_build(&world.caller, request("app", recipe.clone()));
    assert_eq!(
        code(begun.await),
        ErrorCode::ValidationError,
        "its files are not here"
    );
    for step in &mut recipe.steps {
        if let skerry_control::recipe::Action::Copy { files, .. } = &mut step.action {
            files.clone_from(&hash);
        }
    }
    let content = || {
        let chunk: skerry_types::Result<bytes::Bytes> = Ok(archive.clone().into());
        futures::stream::iter([chunk]).boxed()
    };
    let (control, caller) = (&world.control, &world.caller);
    let zeros = "0".repeat(64);
    let wrong = control.upload(caller, &zeros, content(), true);
    assert_eq!(code(wrong.await), ErrorCode::ValidationError);
    control
        .upload(caller, &hash, content(), true)
        .await
        .unwrap();
    assert!(control.has_upload(caller, &hash).unwrap());
    let begun = control
        .start_build(caller, request("app", recipe))
        .await
        .unwrap();
    let log = world.log("app", begun.id).await;
    let ended = world.looked_at("app", begun.id).await;
    assert_eq!(ended.status, BuildStatus::Ready, "{:?}", ended.reason);
    assert_eq!(
        world.node.done(),
        [
            "mkdir /home/src",
            "tar /home/src me",
            "run one as root in /home/src A=1 ARG=1 PATH=/opt:/bin",
            "run two $A as me in /home/src A=1 ARG=1 PATH=/opt:/bin",
        ]
    );
    let given = world.node.given(ended.snapshot_id.unwrap()).unwrap();
    assert_eq!((&*given.workdir, &*given.user), ("/home/src", "me"));
    assert_eq!(
        given.env.len(),
        2,
        "an argument is no variable: {:?}",
        given.env
    );
    assert_eq!(ended.defaults.env_names, ["A", "PATH"]);
    assert_eq!(ended.defaults.cmd, ["/bin/sh", "-c", "serve"]);
    assert!(
        log.iter()
            .any(|line| line.level == "output" && line.message == "one")
    );
    assert_eq!(log.last().unwrap().level, "end");
    world.assert_clean();

    let made = world.running_with(from("app")).await;
    assert_eq!(world.node.order(made).unwrap().snapshot, ended.snapshot_id);
}

#[tokio::test]
async fn what_was_done_is_not_done_again() {
    let world = World::new(9).await;
    let first = world
        .build("app", "FROM base\nRUN one\nENV A=1\nRUN two")
        .await;
    assert_eq!(world.node.done().len(), 2);
    let boxes = world.node.started().len();
    let again = world
        .build("app", "FROM base\nRUN one\nENV A=1\nRUN two\n")
        .await;
    assert_eq!(again.snapshot_id, first.snapshot_id);
    assert_eq!(
        (world.node.done().len(), world.node.started().len()),
        (0, boxes)
    );
    let changed = world
        .build("other", "FROM base\nRUN one\nENV A=2\nRUN two")
        .await;
    assert_eq!(
        world.node.done(),
        ["run two as user in /home A=2 PATH=/bin"]
    );
    assert_ne!(changed.snapshot_id, first.snapshot_id);
    let ended = world.build("only-env", "FROM base\nRUN one\nENV A=3").await;
    assert_eq!(
        (world.node.done().len(), ended.status),
        (0, BuildStatus::Ready)
    );
    assert_ne!(ended.snapshot_id, changed.snapshot_id);
    let all = BuildRequest {
        no_cache: true,
        ..request("app", recipe("FROM base\nRUN one"))
    };
    let begun = world.control.start_build(&world.caller, all).await.unwrap();
    world.log("app", begun.id).await;
    assert_eq!(world.node.done().len(), 1);
    world.assert_clean();
    let layer = first.snapshot_id.unwrap().to_string();
    let refused = world.control.remove_snapshot(&world.caller, &layer);
    assert_eq!(
        code(refused.await),
        ErrorCode::Conflict,
        "it is a template's"
    );
}

#[tokio::test]
async fn a_failure_names_the_step_and_changes_no_tag() {
    let world = World::new(9).await;
    let good = world.build("app", "FROM base\nRUN one").await;
    let bad = world
        .build("app", "FROM base\nRUN one\n\nRUN exit 3\nRUN never")
        .await;
    assert_eq!(bad.status, BuildStatus::Error);
    let reason = bad.reason.unwrap();
    assert!(
        reason.starts_with("line 4: RUN exit 3: it ended with 3"),
        "{reason}"
    );
    assert_eq!(bad.step.as_deref(), Some("RUN exit 3"));
    let made = world.running_with(from("app:latest")).await;
    assert_eq!(world.node.order(made).unwrap().snapshot, good.snapshot_id);
    world.control.delete(&world.caller, made).await.unwrap();
    world.node.breaks(Fault::CreateFails);
    let bad = world.build("app", "FROM base\nRUN two").await;
    assert!(bad.reason.unwrap().contains("mounted"));
    let bad = world.build("app", "FROM nowhere\nRUN two").await;
    assert!(bad.reason.unwrap().starts_with("FROM nowhere"));
    world.assert_clean();
}

#[tokio::test]
async fn a_build_is_called_off_and_its_template_removed() {
    let world = World::new(9).await;
    let (control, caller) = (&world.control, &world.caller);
    let building = world.begin("app", "FROM base\nRUN hang").await;
    eventually("it runs", || {
        world.node.done().iter().any(|done| done.contains("hang"))
    })
    .await;
    let refused = control.delete_template(caller, "app").await;
    assert_eq!(code(refused), ErrorCode::Conflict);
    let ended = control
        .cancel_build(caller, "app", building.id)
        .await
        .unwrap();
    assert_eq!(
        (ended.status, ended.reason.as_deref()),
        (BuildStatus::Error, Some("it was cancelled"))
    );
    world.assert_clean();
    let again = control
        .cancel_build(caller, "app", building.id)
        .await
        .unwrap();
    assert_eq!(again, ended);
    control.delete_template(caller, "app").await.unwrap();
    assert_eq!(
        code(control.template(caller, "app").await),
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn only_so_many_wait_and_all_end_with_the_server() {
    let mut world = World::new(9).await;
    let mut begun = Vec::new();
    for number in 0..16 {
        begun.push(
            world
                .begin("app", &format!("FROM base\nRUN hang {number}"))
                .await
                .id,
        );
    }
    let one_more = world
        .control
        .start_build(&world.caller, request("app", recipe("FROM base")));
    assert_eq!(code(one_more.await), ErrorCode::QuotaExceeded);
    world.restart().await;
    for id in begun {
        let ended = world.looked_at("app", id).await;
        assert!(ended.reason.unwrap().starts_with("interrupted"));
    }
    world.assert_clean();
}

#[tokio::test]
async fn what_a_dead_server_built_is_ended_and_cleared_away() {
    let mut world = World::new(9).await;
    let building = world.begin("app", "FROM base\nRUN hang").await;
    eventually("it runs", || {
        world.node.done().iter().any(|done| done.contains("hang"))
    })
    .await;
    // The old one dies without a word: a new one over the same store and node takes over.
    let beside = world.beside().await;
    let dead = std::mem::replace(&mut world.control, beside);
    let ended = world.looked_at("app", building.id).await;
    assert!(ended.reason.unwrap().starts_with("interrupted"));
    let log = world.log("app", building.id).await;
    assert_eq!(log.last().unwrap().level, "end");
    eventually("its sandbox is gone", || {
        world
            .node
            .started()
            .iter()
            .all(|id| world.node.state(*id).is_none())
    })
    .await;
    dead.drain().await;
}

#[tokio::test]
async fn names_that_mean_something_else_are_refused() {
    let world = World::new(9).await;
    for bad in ["", "base", "host:v1", "a/b", "a:", "a:b:c", "-a"] {
        let begun = world
            .control
            .start_build(&world.caller, request(bad, recipe("FROM base")));
        assert!(begun.await.is_err(), "{bad}");
    }
    let build = world.build("app", "FROM base").await;
    assert_eq!(build.status, BuildStatus::Ready);
    let stranger = world.stranger(Quotas::LOCAL).await;
    let control = &world.control;
    assert_eq!(
        code(control.template(&stranger, "app").await),
        ErrorCode::NotFound
    );
    assert_eq!(
        code(control.build(&stranger, "app", build.id).await),
        ErrorCode::NotFound
    );
    assert_eq!(
        code(control.create(&stranger, from("app")).await),
        ErrorCode::ValidationError
    );
    let unknown = control
        .create(&world.caller, from("app:v2"))
        .await
        .unwrap_err();
    assert!(
        unknown.message.contains("app"),
        "it names those there are: {unknown}"
    );
}

#[tokio::test]
async fn what_is_started_is_kept_once_it_is_ready() {
    let world = World::new(9).await;
    let started = |start: &str, ready: &str| Recipe {
        start: Some(start.to_owned()),
        ready: Some(ready.to_owned()),
        ..recipe("FROM base\nRUN one")
    };
    let ended = async |recipe| {
        let begun = world
            .control
            .start_build(&world.caller, request("app", recipe));
        let id = begun.await.unwrap().id;
        world.log("app", id).await;
        world.looked_at("app", id).await
    };
    let whole = ended(started("hang and serve", "true")).await;
    let done = world.node.done();
    assert!(
        done[1].starts_with("run hang and serve") && done[2].starts_with("run true"),
        "{done:?}"
    );
    let given = world.node.given(whole.snapshot_id.unwrap()).unwrap();
    let start = given.start.unwrap();
    assert_eq!(
        (&*start.command, &*start.ready),
        ("hang and serve", "true"),
        "for who makes something of it without memory"
    );
    let failed = ended(started("exit 4", "exit 1")).await;
    let reason = failed.reason.unwrap();
    assert!(
        reason.starts_with("start exit 4: it ended with 4"),
        "{reason}"
    );
    let half = Recipe {
        start: Some("x".to_owned()),
        ..recipe("FROM base")
    };
    let refused = world
        .control
        .start_build(&world.caller, request("app", half));
    assert_eq!(code(refused.await), ErrorCode::ValidationError);
    world.assert_clean();
}

#[tokio::test]
async fn a_create_outlives_its_template() {
    let world = World::new(9).await;
    let build = world.build("app", "FROM base\nRUN one").await;
    world.node.breaks(Fault::CreateHangs);
    let made = world.create_with(from("app")).await.id;
    let deleted = world.control.delete_template(&world.caller, "app");
    deleted.await.unwrap();
    world.node.heals(Fault::CreateHangs);
    world.becomes(made, SandboxState::Running).await;
    assert_eq!(world.node.order(made).unwrap().snapshot, build.snapshot_id);
    assert_eq!(world.node.snapshot_ids(), [build.snapshot_id.unwrap()]);
    // Nobody uses it any more, so one of the next cleanings takes it.
    eventually("it is gone", || {
        world.pass(3600);
        world.node.snapshot_ids().is_empty()
    })
    .await;
}
