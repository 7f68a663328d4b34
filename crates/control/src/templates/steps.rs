//! The steps of a build, one after another, in a sandbox of its own.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use skerry_proto::node::{
    Command, Defaults, ExecEventBody, ExecRecord, FileKind, Map, MemoryWish, Node, START_TAG,
    Start, StartExec,
};
use skerry_recipe::{Action, Command as Script, Effect, Key, Recipe, State, Step};
use skerry_store::BuildEnd;
use skerry_types::{Error, ErrorCode, ExecEnd, ExecId, Result, SandboxId, SandboxState};

use super::archive;
use super::cache::{Begin, Layer};
use super::log::Log;
use super::work::Job;
use crate::create::Source;
use crate::{Control, CreateRequest, Need, OnTimeout, Until};

/// How long one command may take.
const STEP_TIMEOUT: Duration = Duration::from_mins(30);
/// How long what was started may take to be ready, and how often it is asked.
const READY_TIMEOUT: Duration = Duration::from_mins(5);
const READY_EVERY: Duration = Duration::from_millis(250);
/// The sandbox's age limit, longer than any build takes; it goes with the build.
const TTL_SECONDS: u32 = 2 * 3600;
/// Events of a command that are put on record at once.
const BATCH: usize = 64;

impl Control {
    /// Does what is not done yet, and says what came of it.
    pub(super) async fn build_in(
        &self,
        job: &Job,
        sandbox: SandboxId,
        log: &mut Log,
    ) -> Result<BuildEnd> {
        let recipe = &job.request.recipe;
        let (base, content) = self.base(job, log).await?;
        let keys = Key::start(&content, &described(&job.request.setup)).all(recipe);
        let begin = if job.request.no_cache {
            Begin::default()
        } else {
            self.begin_at(&job.caller.tenant, recipe, &keys).await?
        };
        for (number, step) in (1..).zip(&recipe.steps[..begin.done]) {
            let shown = numbered(number, recipe, step);
            log.step(&step.text, &format!("{shown}: as before")).await;
        }
        let whole = match begin.layer {
            Some(layer) if begin.is_whole => layer,
            layer => {
                let source = layer.map_or(base, |layer| layer.id.to_string());
                let mut bench = self.bench(job, sandbox, source, log).await?;
                bench.work(&keys, begin.done).await?
            }
        };
        Ok(ready(whole, recipe))
    }

    /// What it starts from: the name that it goes by, and what says which content that is.
    async fn base(&self, job: &Job, log: &mut Log) -> Result<(String, String)> {
        let from = &job.request.recipe.from;
        if job.request.fetch && self.0.images.resolve(from).await?.is_none() {
            log.info(&format!("getting {from} from its registry")).await;
            let got = self.0.images.fetch(from, job.request.login.clone()).await;
            got.map_err(|error| error_at(&format!("FROM {from}"), error))?;
        }
        let request = CreateRequest {
            image: Some(from.clone()),
            ..job.request.setup.clone()
        };
        let found = self.source(&job.caller, request).await;
        let (_, source) = found.map_err(|error| error_at(&format!("FROM {from}"), error))?;
        let content = match &source {
            Source::Snapshot(snapshot, _) => snapshot.id.to_string(),
            Source::Image(image) => self.0.images.digest(image).await?,
        };
        Ok((source.names().0, content))
    }

    /// Makes the sandbox.
    async fn bench<'a>(
        &'a self,
        job: &'a Job,
        sandbox: SandboxId,
        source: String,
        log: &'a mut Log,
    ) -> Result<Bench<'a>> {
        let caller = &job.caller;
        // On record before it is made, so that whoever comes after a crash removes it.
        let (store, build) = (&self.0.store, job.build.id);
        store
            .note_build(&caller.tenant, build, None, Some(sandbox))
            .await?;
        let most = self.quotas(caller).await?.max_ttl_seconds;
        let request = CreateRequest {
            id: Some(sandbox),
            image: Some(source),
            ttl_seconds: Some(most.min(TTL_SECONDS).into()),
            idle_seconds: Some(0),
            on_timeout: Some(OnTimeout::Delete),
            metadata: [("skerry.build".to_owned(), job.build.id.to_string())].into(),
            ..job.request.setup.clone()
        };
        let making = job.live.making().await;
        let (control, own) = (self.clone(), caller.clone());
        let create = async move {
            let _until_it_is_on_record = making;
            control.create(&own, request).await
        };
        self.detached(create).await?;
        let waited = self.wait_until(caller, sandbox, Until::Ready, STEP_TIMEOUT);
        let made = waited.await?;
        if made.status != SandboxState::Running {
            let why = made
                .failure_message
                .unwrap_or_else(|| format!("it is {}", made.status));
            return Err(Error::conflict(format!("the sandbox to build in: {why}")));
        }
        let node = self.authorize(caller, sandbox, Need::Running).await?;
        let given = node.defaults(sandbox).await?;
        Ok(Bench {
            control: self,
            job,
            log,
            node,
            sandbox,
            has_users: !given.user.is_empty(),
            start: given.start,
            state: State {
                env: given.env,
                workdir: given.workdir,
                user: given.user,
            },
        })
    }
}

/// A build that has its sandbox.
struct Bench<'a> {
    control: &'a Control,
    job: &'a Job,
    log: &'a mut Log,
    node: Arc<dyn Node>,
    sandbox: SandboxId,
    state: State,
    /// There are users in it, and not one id only.
    has_users: bool,
    /// What runs in what is made from it. What it was itself made from may have brought that along.
    start: Option<Start>,
}

impl Bench<'_> {
    /// Does the steps after the first `done`, and gives what is the template.
    async fn work(&mut self, keys: &[Key], done: usize) -> Result<Layer> {
        let recipe = &self.job.request.recipe;
        let mut last = None;
        for (index, step) in recipe.steps.iter().enumerate().skip(done) {
            let shown = numbered(index + 1, recipe, step);
            self.log.step(&step.text, &shown).await;
            self.note(&step.text, u32::try_from(index + 1).ok()).await?;
            let place = match step.line {
                Some(line) => format!("line {line}: {}", step.text),
                None => step.text.clone(),
            };
            let taken = self.step(&step.action).await;
            taken.map_err(|error| error_at(&place, error))?;
            last = None;
            if step.action.makes_layer() {
                last = Some(self.keep(keys[index], MemoryWish::None).await?);
            }
        }
        let end = keys[recipe.steps.len()];
        match (recipe.start.clone().zip(recipe.ready.clone()), last) {
            (Some((command, ready)), _) => self.start(Start { command, ready }, end).await,
            (None, Some(layer)) => Ok(layer),
            (None, None) => self.keep(end, MemoryWish::None).await,
        }
    }

    async fn step(&mut self, action: &Action) -> Result<()> {
        match self.state.apply(action) {
            Effect::Nothing => Ok(()),
            Effect::Folder(path) => {
                // Whoever works there owns it.
                let owner = self.user(&self.state.user);
                self.node.make_dir(self.sandbox, &path, owner).await
            }
            Effect::Run {
                command,
                user,
                args,
            } => {
                let exec = self.begin(command, &user, args).await?;
                self.follow(exec.id).await
            }
            Effect::Copy {
                sources,
                dest,
                owner,
                mode,
            } => {
                let Action::Copy { files, .. } = action else {
                    return Err(Error::internal("only a copy copies"));
                };
                let archive = self
                    .control
                    .0
                    .uploads
                    .open(&self.job.caller.tenant, files)?;
                let wanted = archive::Wanted {
                    sources,
                    is_folder: self.is_folder(&dest).await?,
                    dest,
                    mode,
                };
                let (folder, content) = archive::placed(archive, wanted).await?;
                let owner = owner.unwrap_or_else(|| "0:0".to_owned());
                let written =
                    self.node
                        .write_tar(self.sandbox, &folder, self.user(&owner), content);
                written.await.map(drop)
            }
        }
    }

    /// Whom to name where there are users.
    fn user<'u>(&self, name: &'u str) -> Option<&'u str> {
        (self.has_users && !name.is_empty()).then_some(name)
    }

    async fn is_folder(&self, path: &str) -> Result<bool> {
        if path.ends_with('/') {
            return Ok(true);
        }
        match self.node.stat(self.sandbox, path).await {
            Ok(entry) => Ok(entry.kind == FileKind::Directory),
            Err(error) if error.code == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, command: Script, user: &str, args: Map) -> Result<ExecRecord> {
        let mut request = self.order(command, user);
        request.env.extend(args);
        request.timeout = Some(STEP_TIMEOUT);
        self.node.start_exec(self.sandbox, request).await
    }

    fn order(&self, command: Script, user: &str) -> StartExec {
        StartExec {
            id: ExecId::new(),
            command: match command {
                Script::Shell(script) => Command::Shell(script),
                Script::Argv(argv) => Command::Argv(argv),
            },
            cwd: Some(self.state.workdir.clone()),
            env: self.state.env.clone(),
            user: self.user(user).map(str::to_owned),
            stdin: false,
            tty: None,
            timeout: None,
            session: None,
            tag: None,
        }
    }

    /// Writes down what a command says; an error unless it ends with 0.
    async fn follow(&mut self, exec: ExecId) -> Result<()> {
        let events = self.node.exec_events(self.sandbox, exec, 0, true).await?;
        let mut batches = events.ready_chunks(BATCH);
        let mut end = None;
        while let Some(batch) = batches.next().await {
            for event in batch {
                match event?.body {
                    ExecEventBody::Stdout(bytes) | ExecEventBody::Stderr(bytes) => {
                        self.log.output(&bytes);
                    }
                    ExecEventBody::End { end: how, .. } => end = Some(how),
                }
            }
            self.log.flush().await;
        }
        self.log.end_line();
        self.log.flush().await;
        match end {
            Some(ExecEnd::Exited { code: 0 }) => Ok(()),
            end => Err(Error::conflict(format!(
                "{}{}",
                failed(end),
                self.log.tail()
            ))),
        }
    }

    /// Starts what goes on in what is made from the template, and keeps it once it is ready; with its memory where the driver can.
    async fn start(&mut self, start: Start, key: Key) -> Result<Layer> {
        let shown = format!("start {}", start.command);
        self.log.step(&shown, &shown).await;
        self.note(&shown, None).await?;
        let mut program = self.order(Script::Shell(start.command.clone()), &self.state.user);
        program.tag = Some(START_TAG.to_owned());
        let program = self.node.start_exec(self.sandbox, program).await?.id;
        let ready = self.until_ready(program, &start.ready);
        let ready = tokio::time::timeout(READY_TIMEOUT, ready).await;
        let ready = ready.unwrap_or_else(|_| {
            let seconds = READY_TIMEOUT.as_secs();
            Err(Error::conflict(format!(
                "it was not ready after {seconds} s"
            )))
        });
        ready.map_err(|error| error_at(&shown, error))?;
        self.log.info("it is ready").await;
        self.start = Some(start);
        self.keep(key, MemoryWish::Auto).await
    }

    async fn until_ready(&mut self, program: ExecId, ready: &str) -> Result<()> {
        loop {
            let user = self.state.user.clone();
            let check = self.begin(Script::Shell(ready.to_owned()), &user, Map::new());
            let check = check.await?.id;
            if self.follow(check).await.is_ok() {
                return Ok(());
            }
            let record = self.node.get_exec(self.sandbox, program).await?;
            if record.end.is_some() {
                self.log
                    .info("it ended before it was ready; this is what it wrote")
                    .await;
                self.follow(program).await?;
                return Err(Error::conflict("it ended with 0 before it was ready"));
            }
            tokio::time::sleep(READY_EVERY).await;
        }
    }

    async fn keep(&self, key: Key, memory: MemoryWish) -> Result<Layer> {
        let defaults = Defaults {
            env: self.state.env.clone(),
            workdir: self.state.workdir.clone(),
            user: self.state.user.clone(),
            start: self.start.clone(),
        };
        let kept = self
            .control
            .keep_layer(&self.job.caller, self.sandbox, key, memory, defaults);
        kept.await
    }

    async fn note(&self, step: &str, number: Option<u32>) -> Result<()> {
        let (tenant, id) = (&self.job.caller.tenant, self.job.build.id);
        let store = &self.control.0.store;
        let noted = store.note_build(tenant, id, Some((step, number)), Some(self.sandbox));
        Ok(noted.await?)
    }
}

fn ready(whole: Layer, recipe: &Recipe) -> BuildEnd {
    let mut defaults = whole.defaults;
    defaults.entrypoint.clone_from(&recipe.entrypoint);
    defaults.cmd.clone_from(&recipe.cmd);
    defaults.ports.clone_from(&recipe.ports);
    BuildEnd::Ready(whole.id, defaults)
}

fn numbered(number: usize, recipe: &Recipe, step: &Step) -> String {
    format!("[{number}/{}] {}", recipe.steps.len(), step.text)
}

/// What of the wish for a sandbox decides what steps do.
fn described(setup: &CreateRequest) -> String {
    let CreateRequest {
        profile,
        vcpus,
        memory_mb,
        disk_mb,
        pids,
        network,
        driver,
        isolation,
        privilege,
        ..
    } = setup;
    format!(
        "{profile:?} {vcpus:?} {memory_mb:?} {disk_mb:?} {pids:?} {network:?} {driver:?} {isolation:?} {privilege:?}"
    )
}

fn error_at(place: &str, error: Error) -> Error {
    Error {
        message: format!("{place}: {}", error.message),
        ..error
    }
}

fn failed(end: Option<ExecEnd>) -> String {
    match end {
        Some(ExecEnd::Exited { code }) => format!("it ended with {code}"),
        Some(ExecEnd::Signaled { signal }) => format!("signal {signal} ended it"),
        Some(ExecEnd::OomKilled) => "it needed more memory than there is".to_owned(),
        Some(ExecEnd::TimedOut) => {
            format!("it took longer than {} min", STEP_TIMEOUT.as_secs() / 60)
        }
        Some(ExecEnd::FailedToStart { reason }) => format!("it could not be started: {reason}"),
        Some(ExecEnd::SandboxStopped | ExecEnd::SandboxDeleted) => {
            "its sandbox was taken away".to_owned()
        }
        Some(ExecEnd::NodeLost) | None => "how it ended is not known".to_owned(),
    }
}
