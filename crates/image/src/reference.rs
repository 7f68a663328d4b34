//! Names of images: our own, local ones, and those of registries.

use oci_spec::distribution::Reference;

use crate::error::{ImageError, Result};

/// The name of the image that needs no download.
pub const HOST: &str = "host";
/// The name of the Debian image that is built on this machine.
pub const BASE: &str = "base";

/// No name is longer.
const MAX_BYTES: usize = 512;

/// The name under which a local image is kept: `name:tag`, with `latest` for no tag.
pub(crate) fn local(name: &str) -> Result<String> {
    let (path, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let bad = |reason: &str| Err(bad_reference(name, reason));
    if matches!(path, HOST | BASE) {
        return bad("this name is taken by Skerry itself");
    }
    if name.len() > 255 || !path.split('/').all(is_component) {
        return bad("a name is lower-case letters and digits, joined by one of `. _ - /`");
    }
    if !is_tag(tag) {
        return bad("a tag is up to 128 letters, digits and `. _ -`");
    }
    Ok(format!("{path}:{tag}"))
}

/// The image in a registry that this names; a bare name means the one everybody means.
pub(crate) fn registry(name: &str) -> Result<Reference> {
    if name.len() > MAX_BYTES {
        return Err(bad_reference(name, "it is too long"));
    }
    if matches!(name, HOST | BASE) {
        return Err(bad_reference(name, "this image comes from no registry"));
    }
    name.parse::<Reference>()
        .map_err(|e| bad_reference(name, &e.to_string()))
}

/// Whether someone who wrote this meant a registry, so that a slip of the pen stays on this machine.
pub(crate) fn looks_remote(name: &str) -> bool {
    name.contains(['/', ':', '@']) && registry(name).is_ok()
}

pub(crate) fn bad_reference(name: &str, reason: &str) -> ImageError {
    ImageError::BadReference {
        reference: name.chars().take(256).collect(),
        reason: reason.to_owned(),
    }
}

fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(word)
        && text.ends_with(word)
        && text
            .chars()
            .all(|c| word(c) || matches!(c, '.' | '_' | '-'))
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}
