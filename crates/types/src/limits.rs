//! Numbers that more than one part must agree on. Sizes in bytes, times in seconds unless the name says more.

/// A sandbox's age limit unless it asks for another.
pub const DEFAULT_TTL_SECONDS: u64 = 3600;
/// The largest age limit an org may ask for unless its quota says otherwise.
pub const MAX_TTL_SECONDS: u64 = 14_400;
/// Unused for this long: the sandbox ends. 0 means never.
pub const DEFAULT_IDLE_SECONDS: u64 = 900;
/// How long a sandbox waits for a place.
pub const DEFAULT_QUEUE_TIMEOUT_SECONDS: u64 = 300;
/// How long a node may take to make a sandbox.
pub const PROVISION_TIMEOUT_SECONDS: u64 = 30;
/// The warning before the age limit.
pub const TTL_WARNING_SECONDS: u64 = 60;
/// From TERM to KILL.
pub const KILL_GRACE_MS: u64 = 5_000;
/// An exec's time unless it asks for another.
pub const DEFAULT_EXEC_TIMEOUT_SECONDS: u64 = 300;
/// The most a caller may wait inside one request.
pub const MAX_SYNC_EXEC_SECONDS: u64 = 300;
/// The most an exec may run unless the org's quota says otherwise.
pub const MAX_EXEC_SECONDS: u64 = 7_200;
/// Each of stdout and stderr in a sync answer; the log has all.
pub const SYNC_OUTPUT_BYTES: usize = 1024 * 1024;
/// Open sessions in one sandbox.
pub const MAX_SESSIONS: usize = 5;
/// Execs in one sandbox that have not ended.
pub const MAX_RUNNING_EXECS: usize = 256;
/// Ports of one sandbox that are published.
pub const MAX_PUBLISHED_PORTS: usize = 16;
/// Forks between a sandbox and its root.
pub const MAX_FORK_DEPTH: u32 = 5;
/// Children of one sandbox.
pub const MAX_FORKS: u32 = 10;
/// Forks made by one request.
pub const MAX_FORKS_AT_ONCE: u32 = 100;
/// Snapshots of one org.
pub const MAX_SNAPSHOTS: u32 = 1000;
/// What the snapshots of one org take on disk together, in MiB.
pub const MAX_SNAPSHOT_MB: u32 = 50 * 1024;
/// Templates of one org.
pub const MAX_TEMPLATES: u32 = 200;
/// Volumes of one org.
pub const MAX_VOLUMES: u32 = 200;
/// What the volumes of one org may hold together, in MiB.
pub const MAX_VOLUME_MB: u32 = 50 * 1024;
/// What a volume may hold unless it asks for more, in MiB.
pub const DEFAULT_VOLUME_MB: u32 = 1024;
/// The least a volume may ask for, in MiB.
pub const MIN_VOLUME_MB: u32 = 16;
/// Volumes of one sandbox.
pub const MAX_MOUNTS: usize = 16;
/// One uploaded file.
pub const MAX_FILE_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// One uploaded archive.
pub const MAX_ARCHIVE_BYTES: u64 = 10 * 1024 * 1024 * 1024;
/// Bytes of a sandbox's record, or as many as its disk may have if that is less.
pub const MAX_RECORD_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// A JSON request body.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;
/// A page unless asked otherwise.
pub const DEFAULT_PAGE: u32 = 50;
/// The largest page.
pub const MAX_PAGE: u32 = 200;
/// Entries in a map of env or metadata.
pub const MAX_MAP_ENTRIES: usize = 256;
/// Bytes of a map of env, all names and values together.
pub const MAX_ENV_BYTES: usize = 128 * 1024;
/// Bytes of a map of metadata, all names and values together.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Bytes of a path.
pub const MAX_PATH_BYTES: usize = 4096;
/// Bytes of a command, all arguments together; what the kernel takes for one argument (`MAX_ARG_STRLEN`).
pub const MAX_COMMAND_BYTES: usize = 128 * 1024;
/// Bytes of what an exec is tagged with.
pub const MAX_TAG_BYTES: usize = 256;
/// How long a key is remembered with its answer.
pub const IDEMPOTENCY_SECONDS: u64 = 24 * 3600;
