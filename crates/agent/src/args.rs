//! The agent's command line, written by a launcher and not by people.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::privilege::Level;

/// Where links come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Descriptor 3 listens. With a home, descriptor 4 is the folder to listen in anew after a hold.
    Inherited { home: bool },
    /// Descriptor 3 is the one link there will ever be.
    Connected,
    /// Listen on this path.
    Path(PathBuf),
    /// Connect to this path, again whenever a link ends.
    Dial(PathBuf),
}

/// What the launcher wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) source: Source,
    pub(crate) level: Level,
    /// A file of the launcher's that has served its purpose.
    pub(crate) forget: Option<PathBuf>,
}

/// Why the arguments mean nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error(
        "unknown argument {0:?}; known: --home, --connected, --listen PATH, --dial PATH, --forget PATH, --level restricted|root"
    )]
    Unknown(OsString),
    #[error("{0} needs a value")]
    Incomplete(&'static str),
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, ArgsError> {
    let mut parsed = Args {
        source: Source::Inherited { home: false },
        level: Level::Restricted,
        forget: None,
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--home") => parsed.source = Source::Inherited { home: true },
            Some("--connected") => parsed.source = Source::Connected,
            Some("--listen") => {
                let path = args.next().ok_or(ArgsError::Incomplete("--listen"))?;
                parsed.source = Source::Path(path.into());
            }
            Some("--dial") => {
                let path = args.next().ok_or(ArgsError::Incomplete("--dial"))?;
                parsed.source = Source::Dial(path.into());
            }
            Some("--forget") => {
                let path = args.next().ok_or(ArgsError::Incomplete("--forget"))?;
                parsed.forget = Some(path.into());
            }
            Some("--level") => {
                let level = args.next().ok_or(ArgsError::Incomplete("--level"))?;
                parsed.level = match level.to_str() {
                    Some("restricted") => Level::Restricted,
                    Some("root") => Level::Root,
                    _ => return Err(ArgsError::Unknown(level)),
                };
            }
            _ => return Err(ArgsError::Unknown(arg)),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Args, ArgsError> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn nothing_said_is_the_closed_choice() {
        let want = Args {
            source: Source::Inherited { home: false },
            level: Level::Restricted,
            forget: None,
        };
        assert_eq!(parsed(&[]), Ok(want));
    }

    #[test]
    fn a_level_that_is_not_known_is_refused_and_not_guessed() {
        assert!(parsed(&["--level", "admin"]).is_err());
        assert!(parsed(&["--level"]).is_err());
        assert!(parsed(&["--verbose"]).is_err());
    }
}
