//! The names of every variable of the environment that Skerry reads.

/// Where the server is: `http://127.0.0.1:7300`.
pub(crate) const URL: &str = "SKERRY_URL";
/// The key to call it with.
pub(crate) const API_KEY: &str = "SKERRY_API_KEY";
/// The folder of everything that a server keeps.
pub(crate) const DATA_DIR: &str = "SKERRY_DATA_DIR";
/// Where `skerry up` listens.
pub(crate) const LISTEN: &str = "SKERRY_LISTEN";
/// `postgres://…` or the path of an SQLite file.
pub(crate) const DATABASE_URL: &str = "SKERRY_DATABASE_URL";
/// Networks that sandboxes with network `nat` may reach although they are private: `10.1.0.0/16,…`.
pub(crate) const EGRESS_ALLOW: &str = "SKERRY_EGRESS_ALLOW";
/// Sandboxes that run at once.
pub(crate) const SLOTS: &str = "SKERRY_SLOTS";
/// Host names that the server answers to, beside loopback names.
pub(crate) const DOMAINS: &str = "SKERRY_DOMAINS";
/// Origins whose pages may call the server.
pub(crate) const ORIGINS: &str = "SKERRY_ORIGINS";
/// What is logged: `info`, `skerry_node=debug` …
pub(crate) const LOG: &str = "SKERRY_LOG";
/// `text` or `json`.
pub(crate) const LOG_FORMAT: &str = "SKERRY_LOG_FORMAT";
/// The command line's configuration file; `skerry/config.toml` in the folder of configurations unless given.
pub(crate) const CONFIG: &str = "SKERRY_CONFIG";
