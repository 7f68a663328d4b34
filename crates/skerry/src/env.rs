//! The names of every variable of the environment that Skerry reads.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory};

/// Where the server is: `http://127.0.0.1:7300`.
pub(crate) const URL: &str = "SKERRY_URL";
/// The key to call it with.
pub(crate) const API_KEY: &str = "SKERRY_API_KEY";
/// The folder of everything that a server keeps.
pub(crate) const DATA_DIR: &str = "SKERRY_DATA_DIR";
/// Where `skerry up` listens.
pub(crate) const LISTEN: &str = "SKERRY_LISTEN";
/// Where it listens for TLS.
pub(crate) const TLS_LISTEN: &str = "SKERRY_TLS_LISTEN";
/// The file of the certificates that it shows.
pub(crate) const TLS_CERT: &str = "SKERRY_TLS_CERT";
/// The file of their key.
pub(crate) const TLS_KEY: &str = "SKERRY_TLS_KEY";
/// `postgres://…` or the path of an SQLite file.
pub(crate) const DATABASE_URL: &str = "SKERRY_DATABASE_URL";
/// Where ports of sandboxes are published: `8000-8999`, `0.0.0.0:8000-8999`.
pub(crate) const PUBLISH: &str = "SKERRY_PUBLISH";
/// Networks that sandboxes with network `nat` may reach although they are private: `10.1.0.0/16,…`.
pub(crate) const EGRESS_ALLOW: &str = "SKERRY_EGRESS_ALLOW";
/// Registries that images may come from although they are private: `localhost:5000,…`.
pub(crate) const PRIVATE_REGISTRIES: &str = "SKERRY_PRIVATE_REGISTRIES";
/// Sandboxes that run at once.
pub(crate) const SLOTS: &str = "SKERRY_SLOTS";
/// Sandboxes of one kind that stand ready for the next create.
pub(crate) const READY: &str = "SKERRY_READY";
/// Half-made sandboxes that wait for creates and forks of any kind.
pub(crate) const PREPARED: &str = "SKERRY_PREPARED";
/// What the records of all sandboxes may take of the disk, in MiB.
pub(crate) const JOURNALS_MB: &str = "SKERRY_JOURNALS_MB";
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
/// The folder of Docker's configuration, in which `docker login` leaves logins; `~/.docker` unless given.
pub(crate) const DOCKER_CONFIG: &str = "DOCKER_CONFIG";

/// Names the variable that a refused value came from; the library names the option only.
pub(crate) fn blame(mut error: clap::Error, value: impl Fn(&str) -> Option<String>) -> clap::Error {
    if let Some(name) = source(&error, value) {
        let tip = StyledStr::from(format!("the value comes from the variable {name}"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

fn source(error: &clap::Error, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (option, refused) = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidValue),
    );
    let mut root = crate::Args::command();
    root.build();
    root.get_arguments()
        .chain(root.get_subcommands().flat_map(Command::get_arguments))
        .filter(|arg| arg.to_string() == option)
        .filter_map(|arg| arg.get_env()?.to_str())
        .find(|name| value(name).is_some_and(|set| set.contains(refused)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_refused_value_is_blamed_on_its_variable() {
        let refused = |args: &[&str]| crate::Args::try_parse_from(args).unwrap_err();
        let blamed = |value: &str, set: &str| {
            let error = refused(&["skerry", "up", "--slots", value]);
            let get = |name: &str| (name == SLOTS).then(|| set.to_owned());
            blame(error, get).to_string().contains(SLOTS)
        };
        assert!(blamed("many", "many"));
        assert!(blamed("0", "0"));
        assert!(!blamed("many", "8"), "it came from the command line");
    }
}
