//! What a request means on this node: the image as it is now, and only what the driver can give.

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_driver::{Bind, Driver, NetworkMode, Privilege, Rootfs, Spec, VolumeMount};
use skerry_image::{Image, Kind};
use skerry_proto::node::CreateSandbox;
use skerry_types::{Error, Result};

use crate::meta::{Meta, hostname};
use crate::names::Names;
use crate::pool;

/// What a sandbox of this request is.
pub(super) fn meta(
    request: &CreateSandbox,
    image: &Image,
    volumes: Vec<VolumeMount>,
    driver: &dyn Driver,
) -> Result<Meta> {
    let mut env: BTreeMap<String, String> = image.config.env.iter().cloned().collect();
    env.extend(request.env.clone());
    let user = if driver.capabilities().users {
        image.config.user.clone()
    } else {
        String::new()
    };
    Ok(Meta {
        spec: Spec {
            id: request.id,
            resources: request.resources,
            rootfs: rootfs(image),
            privilege: privilege(request.privilege.as_deref(), image, driver)?,
            network: network(&request.network, driver)?,
            hostname: hostname(request.id, request.name.as_deref()),
            volumes,
        },
        driver: driver.capabilities().driver.clone(),
        image: image.clone(),
        user,
        env,
        start: None,
        forked_from: None,
        auto_resume: request.auto_resume,
        published: Vec::new(),
        egress: request.egress.clone(),
        names: Names::default(),
        rolled_back: None,
        deleting: false,
    })
}

/// The kind of sandbox that can stand in for this one.
pub(super) fn kind(
    meta: &Meta,
    driver: &Arc<dyn Driver>,
    from: Option<pool::Frozen>,
) -> pool::Kind {
    pool::Kind {
        spec: meta.spec.clone(),
        driver: Arc::clone(driver),
        image: meta.image.clone(),
        from,
    }
}

fn rootfs(image: &Image) -> Rootfs {
    Rootfs {
        layers: image.layers.clone(),
        binds: image
            .binds
            .iter()
            .map(|b| Bind {
                source: b.source.clone(),
                target: b.target.clone(),
            })
            .collect(),
    }
}

/// As asked; else what the image is for: `base` has sudo, so it gets the level where sudo works.
fn privilege(asked: Option<&str>, image: &Image, driver: &dyn Driver) -> Result<Privilege> {
    let capabilities = driver.capabilities();
    match asked {
        Some("restricted") => Ok(Privilege::Restricted),
        Some("root") if capabilities.level_root => Ok(Privilege::Root),
        Some("root") => Err(capabilities.unsupported("give privilege level root").into()),
        Some(other) => Err(Error::validation(format!(
            "privilege is `{other}`; it must be `restricted` or `root`"
        ))),
        None if image.kind == Kind::Base && capabilities.level_root => Ok(Privilege::Root),
        None => Ok(Privilege::Restricted),
    }
}

/// As asked, where the driver can.
pub(super) fn network(asked: &str, driver: &dyn Driver) -> Result<NetworkMode> {
    let capabilities = driver.capabilities();
    match asked {
        "none" => Ok(NetworkMode::None),
        "nat" if capabilities.nat => Ok(NetworkMode::Nat),
        "nat" => Err(capabilities.unsupported("give network nat").into()),
        other => Err(Error::validation(format!(
            "network is `{other}`; it must be `none` or `nat`"
        ))),
    }
}
