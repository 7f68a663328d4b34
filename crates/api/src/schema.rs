//! Schemas of the words that `types` owns, made from their own lists so that they cannot drift.

use skerry_types::{ErrorCode, ExecStatus, FailureReason, SandboxState};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names))
        .build()
}

fn id(prefix: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(format!("^{prefix}_[0-9A-Za-z]{{22}}$")))
        .build()
}

pub(crate) fn sandbox_id() -> Object {
    id(skerry_types::SandboxId::PREFIX)
}

pub(crate) fn exec_id() -> Object {
    id(skerry_types::ExecId::PREFIX)
}

pub(crate) fn session_id() -> Object {
    id(skerry_types::SessionId::PREFIX)
}

pub(crate) fn image_id() -> Object {
    id(skerry_types::ImageId::PREFIX)
}

pub(crate) fn snapshot_id() -> Object {
    id(skerry_types::SnapshotId::PREFIX)
}

pub(crate) fn volume_id() -> Object {
    id(skerry_types::VolumeId::PREFIX)
}

pub(crate) fn template_id() -> Object {
    id(skerry_types::TemplateId::PREFIX)
}

pub(crate) fn build_id() -> Object {
    id(skerry_types::BuildId::PREFIX)
}

pub(crate) fn node_id() -> Object {
    id(skerry_types::NodeId::PREFIX)
}

pub(crate) fn error_code() -> Object {
    one_of(ErrorCode::ALL.iter().map(|code| code.as_str()))
}

pub(crate) fn sandbox_state() -> Object {
    one_of(SandboxState::ALL.iter().map(|state| state.as_str()))
}

pub(crate) fn exec_status() -> Object {
    one_of(ExecStatus::ALL.iter().map(|status| status.as_str()))
}

pub(crate) fn failure_reason() -> Object {
    one_of(FailureReason::ALL.iter().map(|reason| reason.as_str()))
}

/// The explicit end of an exec, as `types::ExecEnd` writes itself.
pub(crate) fn exec_end() -> Object {
    let kinds = [
        "exited",
        "signaled",
        "oom_killed",
        "timed_out",
        "sandbox_stopped",
        "sandbox_deleted",
        "node_lost",
        "failed_to_start",
    ];
    let number = || ObjectBuilder::new().schema_type(Type::Integer);
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("kind", one_of(kinds))
        .property("code", number().description(Some("of `exited`")))
        .property("signal", number().description(Some("of `signaled`")))
        .property(
            "reason",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .description(Some("of `failed_to_start`")),
        )
        .required("kind")
        .build()
}
