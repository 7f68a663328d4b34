//! From the words of control and node to the shapes of the API, and back.

use std::net::IpAddr;

use skerry_api as api;
use skerry_control as control;
use skerry_proto::node;
use skerry_types::egress::EVERYTHING;
use skerry_types::{Egress, Error, PublishedPort, Result, SandboxId};

pub(crate) fn fork(id: SandboxId, request: api::ForkSandbox) -> control::ForkRequest {
    control::ForkRequest {
        id: Some(id),
        env: request.env,
        ttl_seconds: request.ttl_seconds,
        name: request.name,
        metadata: request.metadata,
        memory: memory(request.memory),
    }
}

pub(crate) fn fork_many(request: api::ForkMany) -> control::ForkRequest {
    control::ForkRequest {
        id: None,
        env: request.env,
        ttl_seconds: request.ttl_seconds,
        name: request.name,
        metadata: request.metadata,
        memory: memory(request.memory),
    }
}

pub(crate) fn fork_list(forks: control::Forks) -> api::ForkList {
    let children = forks.children.into_iter();
    api::ForkList {
        kind: kind(forks.memory),
        held_us: forks.held_us,
        forks: children.map(|(id, made)| fork_outcome(id, made)).collect(),
    }
}

fn fork_outcome(id: SandboxId, made: Result<control::Sandbox>) -> api::ForkOutcome {
    let (made, error) = match made {
        Ok(made) => (Some(sandbox(made)), None),
        Err(error) => (None, Some(error)),
    };
    api::ForkOutcome {
        sandbox_id: id,
        sandbox: made,
        error: error.map(|error| api::ForkError {
            code: error.code,
            message: error.message,
            hint: error.hint,
        }),
    }
}

fn kind(memory: bool) -> String {
    if memory { "files+memory" } else { "files" }.to_owned()
}

pub(crate) fn memory(wish: api::MemoryWish) -> node::MemoryWish {
    match wish {
        api::MemoryWish::Auto => node::MemoryWish::Auto,
        api::MemoryWish::Required => node::MemoryWish::Required,
        api::MemoryWish::None => node::MemoryWish::None,
    }
}

pub(crate) fn snapshot(snapshot: control::Snapshot) -> api::Snapshot {
    api::Snapshot {
        snapshot_id: snapshot.id,
        name: snapshot.name,
        sandbox_id: snapshot.sandbox_id,
        image: snapshot.image,
        driver: snapshot.driver,
        privilege: snapshot.privilege.as_str().to_owned(),
        vcpus: snapshot.resources.vcpus,
        memory_mb: snapshot.resources.memory_mb,
        disk_mb: snapshot.resources.disk_mb,
        pids: snapshot.resources.pids,
        kind: kind(snapshot.memory),
        bytes: snapshot.bytes,
        held_us: snapshot.held_us,
        created_at: snapshot.created_at,
    }
}

pub(crate) fn template(view: control::TemplateView) -> api::Template {
    api::Template {
        template_id: view.template.id,
        name: view.template.name,
        public: view.template.public,
        tags: view.tags.into_iter().map(tag).collect(),
        created_at: view.template.created_at,
    }
}

fn tag(tag: control::Tag) -> api::TemplateTag {
    api::TemplateTag {
        tag: tag.tag,
        build_id: tag.build_id,
        created_at: tag.created_at,
    }
}

pub(crate) fn build(build: control::Build) -> api::Build {
    use control::BuildStatus as S;
    let defaults = api::TemplateDefaults {
        workdir: build.defaults.workdir,
        user: build.defaults.user,
        env_names: build.defaults.env_names,
        entrypoint: build.defaults.entrypoint,
        cmd: build.defaults.cmd,
        ports: build.defaults.ports,
    };
    api::Build {
        build_id: build.id,
        template_id: build.template_id,
        tags: build.tags,
        defaults: (build.status == S::Ready).then_some(defaults),
        status: match build.status {
            S::Waiting => api::BuildStatus::Waiting,
            S::Building => api::BuildStatus::Building,
            S::Ready => api::BuildStatus::Ready,
            S::Error => api::BuildStatus::Error,
        },
        step: build.step,
        step_number: build.step_number,
        reason: build.reason,
        snapshot_id: build.snapshot_id,
        created_at: build.created_at,
        started_at: build.started_at,
        ended_at: build.ended_at,
    }
}

pub(crate) fn build_log_line(line: control::LogLine) -> api::BuildLogLine {
    api::BuildLogLine {
        seq: line.seq,
        ts: line.ts,
        level: line.level,
        step: line.step,
        message: line.message,
    }
}

pub(crate) fn create(id: SandboxId, request: api::CreateSandbox) -> Result<control::CreateRequest> {
    Ok(control::CreateRequest {
        id: Some(id),
        image: request.image.or(request.template),
        profile: request.profile,
        vcpus: request.vcpus,
        memory_mb: request.memory_mb,
        disk_mb: request.disk_mb,
        pids: request.pids,
        env: request.env,
        ttl_seconds: request.ttl_seconds,
        idle_seconds: request.idle_seconds,
        on_timeout: request.on_timeout.map(on_timeout_in),
        on_idle: request.on_idle.map(on_timeout_in),
        auto_resume: request.auto_resume,
        keep_paused: request.keep_paused,
        public_ports: request.public_ports,
        queue_timeout_seconds: request.queue_timeout_seconds,
        metadata: request.metadata,
        name: request.name,
        project: request.project,
        region: request.region,
        network: request.network,
        egress: request.egress.map(egress_in).transpose()?,
        volumes: request.volumes.into_iter().map(volume_wish).collect(),
        ports: request.ports,
        driver: request.driver,
        isolation: request.isolation,
        privilege: request.privilege,
    })
}

/// Whoever lists what is allowed means that the rest is not, unless they say what is denied.
pub(crate) fn egress_in(rules: api::Egress) -> Result<Egress> {
    let deny = match rules.deny {
        Some(deny) => deny,
        None if rules.allow.is_empty() => Vec::new(),
        None => vec![EVERYTHING.to_owned()],
    };
    let read = Egress::new(&rules.allow, &deny);
    read.map_err(|error| Error::validation(format!("egress.{error}")))
}

fn egress_out(egress: &Egress) -> api::Egress {
    api::Egress {
        allow: egress.allow(),
        deny: Some(egress.deny()),
    }
}

fn volume_wish(mount: api::VolumeMount) -> control::VolumeWish {
    control::VolumeWish {
        volume: mount.volume,
        path: mount.path,
    }
}

fn mounted(mounted: control::Mounted) -> api::MountedVolume {
    api::MountedVolume {
        volume_id: mounted.volume,
        name: mounted.name,
        path: mounted.path,
    }
}

pub(crate) fn volume(volume: control::Volume, report: Option<node::VolumeReport>) -> api::Volume {
    api::Volume {
        volume_id: volume.id,
        name: volume.name,
        size_mb: volume.size_mb,
        size_binds: report.map(|report| report.size_binds),
        used_bytes: report.map(|report| report.bytes),
        created_at: volume.created_at,
    }
}

pub(crate) fn on_timeout_in(value: api::OnTimeout) -> control::OnTimeout {
    match value {
        api::OnTimeout::Stop => control::OnTimeout::Stop,
        api::OnTimeout::Pause => control::OnTimeout::Pause,
        api::OnTimeout::Delete => control::OnTimeout::Delete,
    }
}

fn on_timeout_out(value: control::OnTimeout) -> api::OnTimeout {
    match value {
        control::OnTimeout::Stop => api::OnTimeout::Stop,
        control::OnTimeout::Pause => api::OnTimeout::Pause,
        control::OnTimeout::Delete => api::OnTimeout::Delete,
    }
}

pub(crate) fn sandbox(sandbox: control::Sandbox) -> api::Sandbox {
    let published = published(&sandbox);
    api::Sandbox {
        sandbox_id: sandbox.id,
        name: sandbox.name,
        project: sandbox.project,
        region: sandbox.region,
        status: sandbox.status,
        image: sandbox.image,
        template: sandbox.template,
        profile: sandbox.profile,
        vcpus: sandbox.resources.vcpus,
        memory_mb: sandbox.resources.memory_mb,
        disk_mb: sandbox.resources.disk_mb,
        pids: sandbox.resources.pids,
        env_names: sandbox.env_names,
        metadata: sandbox.metadata,
        network: sandbox.network,
        egress: egress_out(&sandbox.egress),
        driver: sandbox.driver,
        isolation: sandbox.isolation,
        privilege: sandbox.privilege,
        queue_timeout_seconds: sandbox.queue_timeout_seconds,
        ttl_seconds: sandbox.ttl_seconds,
        idle_seconds: sandbox.idle_seconds,
        on_timeout: on_timeout_out(sandbox.on_timeout),
        on_idle: on_timeout_out(sandbox.on_idle),
        auto_resume: sandbox.auto_resume,
        keep_paused: sandbox.keep_paused,
        public_ports: sandbox.public_ports,
        published,
        volumes: sandbox.volumes.into_iter().map(mounted).collect(),
        facts: sandbox.facts.map(facts),
        forked_from: sandbox.forked_from,
        fork_depth: sandbox.fork_depth,
        fork_count: sandbox.fork_count,
        node_id: sandbox.node,
        queue_position: sandbox.queue_position,
        failure_reason: sandbox.failure_reason,
        failure_message: sandbox.failure_message,
        created_at: sandbox.created_at,
        started_at: sandbox.started_at,
        expires_at: sandbox.expires_at,
        ended_at: sandbox.ended_at,
        last_active_at: sandbox.last_active_at,
        boot_us: sandbox.boot_us,
    }
}

/// Those of one that has ended are given back.
fn published(sandbox: &control::Sandbox) -> Vec<api::PublishedPort> {
    let facts = sandbox.facts.iter();
    let facts = facts.filter(|_| !sandbox.status.is_ended());
    facts
        .flat_map(|facts| &facts.published)
        .map(published_port)
        .collect()
}

fn published_port(published: &PublishedPort) -> api::PublishedPort {
    let host_port = published.address.port();
    let host = match published.address.ip() {
        every if every.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    api::PublishedPort {
        port: published.port,
        host_port,
        url: format!("http://{host}:{host_port}"),
    }
}

fn facts(facts: node::SandboxFacts) -> api::Facts {
    api::Facts {
        driver: facts.driver,
        isolation: facts.isolation,
        accelerator: facts.accelerator,
        privilege: facts.privilege,
        storage: facts.storage,
        disk_quota: facts.disk_quota,
        limits: facts.limits,
        image_digest: facts.image_digest,
        fork: facts.fork,
    }
}

pub(crate) fn tree(tree: control::Tree) -> api::ForkTree {
    api::ForkTree {
        root: tree.root,
        tree: tree.members.into_iter().map(member).collect(),
    }
}

fn member(member: control::TreeMember) -> api::ForkMember {
    api::ForkMember {
        sandbox_id: member.id,
        name: member.name,
        status: member.status,
        forked_from: member.forked_from,
        forked_at: member.forked_from.map(|_| member.created_at),
        children: member.children,
    }
}

pub(crate) fn metrics(stats: node::SandboxStats) -> api::Metrics {
    api::Metrics {
        ts: jiff::Timestamp::now(),
        cpu_us: stats.cpu_us,
        memory_bytes: stats.memory_bytes,
        memory_peak_bytes: stats.memory_peak_bytes,
        pids: stats.pids,
        disk_bytes: stats.disk_bytes,
        oom_kills: stats.oom_kills,
    }
}

pub(crate) fn command(command: api::Command) -> node::Command {
    match command {
        api::Command::Shell(script) => node::Command::Shell(script),
        api::Command::Argv(argv) => node::Command::Argv(argv),
    }
}

pub(crate) fn exec(record: node::ExecRecord) -> api::Exec {
    api::Exec {
        exec_id: record.id,
        number: record.number,
        cmd: match record.command {
            node::Command::Shell(script) => api::Command::Shell(script),
            node::Command::Argv(argv) => api::Command::Argv(argv),
        },
        cwd: record.cwd,
        user: record.user,
        session_id: record.session,
        tty: record.tty,
        timeout_seconds: record.timeout.map(|timeout| timeout.as_secs()),
        tag: record.tag,
        pid: record.pid,
        status: record.status,
        exit_code: record
            .end
            .as_ref()
            .and_then(skerry_types::ExecEnd::exit_code),
        end: record.end,
        resource_usage: record.usage.map(usage),
        duration_ms: record.duration_ms,
        stdout_bytes: record.stdout_bytes,
        stderr_bytes: record.stderr_bytes,
        created_at: record.created_at,
        ended_at: record.ended_at,
    }
}

pub(crate) fn usage(usage: skerry_types::Usage) -> api::ResourceUsage {
    api::ResourceUsage {
        cpu_ms: usage.cpu_ms,
        peak_memory_bytes: usage.peak_memory_bytes,
    }
}

pub(crate) fn session(record: node::SessionRecord) -> api::Session {
    api::Session {
        session_id: record.id,
        status: if record.open { "running" } else { "destroyed" }.to_owned(),
        shell: record.shell,
        created_at: record.created_at,
        destroyed_at: record.ended_at,
    }
}

pub(crate) fn process(process: node::ProcessInfo) -> api::Process {
    api::Process {
        pid: process.pid,
        ppid: process.ppid,
        argv: process.argv,
    }
}

pub(crate) fn file(entry: node::FileEntry) -> api::FileEntry {
    api::FileEntry {
        permissions: permissions(entry.mode),
        name: entry.name,
        path: entry.path,
        kind: file_kind(entry.kind),
        size_bytes: entry.size_bytes,
        mode: entry.mode,
        owner: entry.owner,
        group: entry.group,
        modified_at: entry.modified_at,
        symlink_target: entry.symlink_target,
    }
}

/// Whoever owns something in a volume has a name in sandboxes only.
pub(crate) fn volume_file(entry: node::VolumeEntry) -> api::FileEntry {
    api::FileEntry {
        permissions: permissions(entry.mode),
        name: entry.name,
        path: entry.path,
        kind: file_kind(entry.kind),
        size_bytes: entry.size_bytes,
        mode: entry.mode,
        owner: entry.uid.to_string(),
        group: entry.gid.to_string(),
        modified_at: entry.modified_at,
        symlink_target: entry.symlink_target,
    }
}

fn file_kind(kind: node::FileKind) -> api::FileKind {
    match kind {
        node::FileKind::File => api::FileKind::File,
        node::FileKind::Directory => api::FileKind::Directory,
        node::FileKind::Symlink => api::FileKind::Symlink,
        node::FileKind::Other => api::FileKind::Other,
    }
}

fn permissions(mode: u32) -> String {
    const LETTERS: [char; 3] = ['r', 'w', 'x'];
    (0..9)
        .map(|at| {
            if mode & (0o400 >> at) == 0 {
                '-'
            } else {
                LETTERS[at % 3]
            }
        })
        .collect()
}

pub(crate) fn event(event: node::JournalEvent) -> api::Event {
    api::Event {
        seq: event.seq,
        ts: event.ts,
        kind: event.kind,
        data: event.data,
    }
}
