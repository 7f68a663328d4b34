//! Every field that a caller may fill, checked before anything is done. Messages name the field, its bounds and what to do.

use std::collections::BTreeSet;

use skerry_proto::node::Map;
use skerry_types::{Error, Profile, Resources, Result, limits};

use crate::nodes::ISOLATIONS;
use crate::request::CreateRequest;

const DRIVERS: [&str; 6] = ["ns", "gvisor", "vm", "docker", "fly", "sim"];
const NETWORKS: [&str; 2] = ["none", "nat"];
const PRIVILEGES: [&str; 2] = ["restricted", "root"];
const MAX_NAME: usize = 64;
const MAX_IMAGE: usize = 512;
const MAX_PROJECT: usize = 128;
const MAX_QUEUE_SECONDS: u32 = 24 * 3600;
const MAX_IDLE_SECONDS: u32 = 30 * 24 * 3600;

/// A number within bounds.
pub(crate) fn within(field: &str, value: u64, min: u32, max: u32) -> Result<u32> {
    match u32::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(Error::validation(format!(
            "{field} is {value}; it must be {min} to {max}"
        ))),
    }
}

/// Seconds to live: at least one, at most what the org may have.
pub(crate) fn ttl(value: u64, max: u32) -> Result<u32> {
    within("ttl_seconds", value, 1, max).map_err(|error| {
        error.with_hint(if value == 0 {
            "every sandbox has an age limit; leave ttl_seconds out for the usual one"
        } else {
            "ask for less, or have the organisation's quota raised"
        })
    })
}

/// Seconds without use; 0 means never.
pub(crate) fn idle(value: u64) -> Result<u32> {
    within("idle_seconds", value, 0, MAX_IDLE_SECONDS)
}

/// Seconds in the queue.
pub(crate) fn queue_timeout(value: u64) -> Result<u32> {
    within("queue_timeout_seconds", value, 0, MAX_QUEUE_SECONDS)
}

/// `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`
pub(crate) fn name(field: &str, value: &str) -> Result<()> {
    let first = value
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if first && rest && value.len() <= MAX_NAME {
        return Ok(());
    }
    Err(Error::validation(format!(
        "{field} must begin with a letter or digit and have 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores"
    )))
}

/// A text that is shown as it came.
fn text(field: &str, value: Option<&str>, max: usize) -> Result<()> {
    match value {
        Some(value)
            if value.is_empty() || value.len() > max || value.contains(char::is_control) =>
        {
            Err(Error::validation(format!(
                "{field} must be a text of 1 to {max} bytes without control characters"
            )))
        }
        _ => Ok(()),
    }
}

/// One of a list of words.
fn word(field: &str, value: Option<&str>, words: &[&str]) -> Result<()> {
    match value {
        Some(value) if !words.contains(&value) => Err(Error::validation(format!(
            "{field} `{}` is not known; it must be one of {}",
            shown(value),
            words.join(", ")
        ))),
        _ => Ok(()),
    }
}

/// The beginning of a text that a caller sent, fit for a message.
pub(crate) fn shown(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Names and values of an environment. The message shows no value.
pub(crate) fn env(map: &Map) -> Result<()> {
    sized("env", map, limits::MAX_ENV_BYTES)?;
    for (name, value) in map {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::validation(format!(
                "env has the name `{}`; a name must not be empty and not contain `=` or NUL",
                shown(name)
            )));
        }
        no_nul("env", name, value)?;
    }
    Ok(())
}

/// Names and values to find a sandbox by.
pub(crate) fn metadata(map: &Map) -> Result<()> {
    sized("metadata", map, limits::MAX_METADATA_BYTES)?;
    for (name, value) in map {
        if name.is_empty() || name.contains('\0') {
            return Err(Error::validation(
                "metadata has a name that is empty or contains NUL",
            ));
        }
        no_nul("metadata", name, value)?;
    }
    Ok(())
}

fn no_nul(field: &str, name: &str, value: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(Error::validation(format!(
            "{field}: the value of `{}` contains NUL, which no value may",
            shown(name)
        )));
    }
    Ok(())
}

fn sized(field: &str, map: &Map, max_bytes: usize) -> Result<()> {
    let max_entries = limits::MAX_MAP_ENTRIES;
    if map.len() > max_entries {
        return Err(Error::validation(format!(
            "{field} has {} entries; it may have {max_entries}",
            map.len()
        )));
    }
    let bytes: usize = map.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > max_bytes {
        return Err(Error::validation(format!(
            "{field} has {bytes} bytes, names and values together; it may have {max_bytes}"
        )));
    }
    Ok(())
}

/// What the sandbox may use: the profile's values, each single value given going before the profile's.
pub(crate) fn resources(request: &CreateRequest) -> Result<Resources> {
    let base = match request.profile.as_deref() {
        Some(name) => Profile::from_name(name)
            .ok_or_else(|| {
                let known: Vec<_> = Profile::ALL.iter().map(|p| p.as_str()).collect();
                Error::validation(format!(
                    "profile `{}` is not known; it must be one of {}",
                    shown(name),
                    known.join(", ")
                ))
            })?
            .resources(),
        None if single_values(request) => Resources::FREE_FORM,
        None => Profile::Small.resources(),
    };
    Resources {
        vcpus: request.vcpus.unwrap_or(base.vcpus),
        memory_mb: request.memory_mb.unwrap_or(base.memory_mb),
        disk_mb: request.disk_mb.unwrap_or(base.disk_mb),
        pids: request.pids.unwrap_or(base.pids),
    }
    .check()
}

/// The request names sizes of its own.
pub(crate) fn single_values(request: &CreateRequest) -> bool {
    request.vcpus.is_some()
        || request.memory_mb.is_some()
        || request.disk_mb.is_some()
        || request.pids.is_some()
}

/// What can be checked without looking anything up.
pub(crate) fn create(request: &CreateRequest) -> Result<()> {
    if let Some(value) = &request.name {
        name("name", value)?;
    }
    text("image", request.image.as_deref(), MAX_IMAGE)?;
    text("project", request.project.as_deref(), MAX_PROJECT)?;
    ports(&request.ports)?;
    word("network", request.network.as_deref(), &NETWORKS)?;
    word("privilege", request.privilege.as_deref(), &PRIVILEGES)?;
    word("driver", request.driver.as_deref(), &DRIVERS)?;
    word("isolation", request.isolation.as_deref(), &ISOLATIONS)?;
    env(&request.env)?;
    metadata(&request.metadata)
}

/// Ports to publish: each once, and not too many.
fn ports(ports: &[u16]) -> Result<()> {
    let each: BTreeSet<&u16> = ports.iter().filter(|port| **port > 0).collect();
    if each.len() < ports.len() {
        let text = "ports: each is a number from 1 to 65535, and named once";
        return Err(Error::validation(text));
    }
    if ports.len() > limits::MAX_PUBLISHED_PORTS {
        let most = limits::MAX_PUBLISHED_PORTS;
        return Err(Error::validation(format!("ports: {most} are possible")));
    }
    Ok(())
}
