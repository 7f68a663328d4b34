//! Values of options as people write them.

use skerry_api::{Map, VolumeMount};

/// `90`, `90s`, `15m`, `2h` or `1d`, in seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("write it as 90s, 15m, 2h or 1d".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "write it as 90s, 15m, 2h or 1d")?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "too long".to_owned())
}

/// `512`, `512M` or `2G`, in MiB.
pub(crate) fn mebibytes(text: &str) -> Result<u32, String> {
    const HOW: &str = "write it as 512M or 2G";
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" | "M" | "MiB" => 1,
        "G" | "GiB" => 1024,
        _ => return Err(HOW.to_owned()),
    };
    let number: u32 = digits.parse().map_err(|_| HOW)?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
}

/// `NAME=VALUE`, or `NAME` alone for the value that it has here.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name is missing".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(format!("`{text}` has no value here; write {text}=VALUE")),
        },
    }
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// `NAME:/PATH`.
pub(crate) fn volume(text: &str) -> Result<VolumeMount, String> {
    match text.split_once(':') {
        Some((volume, path)) if !volume.is_empty() && path.starts_with('/') => Ok(VolumeMount {
            volume: volume.to_owned(),
            path: path.to_owned(),
        }),
        _ => Err("write it as NAME:/PATH".to_owned()),
    }
}

/// The last of several values for a name counts.
pub(crate) fn map(pairs: &[(String, String)]) -> Map {
    pairs.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_or_refused() {
        assert_eq!(
            ["90", "90s", "15m", "2h", "1d"].map(|t| seconds(t).ok()),
            [90, 90, 900, 7200, 86_400].map(Some)
        );
        for wrong in [
            "",
            "s",
            "-1",
            "1.5h",
            "1w",
            "99999999999999999999",
            "999999999999999999d",
            "٣s",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            ["512", "512M", "2G"].map(|t| mebibytes(t).ok()),
            [512, 512, 2048].map(Some)
        );
        for wrong in ["", "G", "1T", "5000000G"] {
            assert!(mebibytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_may_have_an_equals_sign() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("=b").is_err() && pair("=b").is_err() && pair("a").is_err());
    }
}
