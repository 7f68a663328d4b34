//! What went wrong, as a person reads it and as a script sees it.

use std::io::{self, Write};
use std::process::ExitCode;

use skerry_client::{ClientError, HttpError};
use skerry_store::StoreError;
use skerry_types::ErrorCode;

use super::output::printable;

/// The codes that commands end with; part of the help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  it worked          3  there is no such thing
  1  it did not work    4  no server could be reached
  2  wrong usage        5  the key is missing, unknown or may not do this
  run, exec and sh end with the code of the command they ran: 124 when it
  took too long, 127 when it could not be started, 128 + n when signal n
  ended it (137 also when it was out of memory), and 125 when it is not known
  how it ended or Skerry itself failed.";

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const UNREACHABLE: u8 = 4;
const KEY: u8 = 5;
/// A failure of ours where the other codes belong to the command that was run.
pub(crate) const OWN: u8 = 125;

/// A failure that the command line itself finds.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, message)
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, message)
    }

    pub(crate) fn key(message: impl Into<String>) -> Self {
        Self::new(KEY, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.code == NOT_FOUND
    }

    /// The same with a hint what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Says on stderr what went wrong; gives the code to end with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    report_as(error, None)
}

pub(crate) fn report_as(error: &anyhow::Error, code: Option<u8>) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read our output has enough of it.
        return ExitCode::SUCCESS;
    }
    let mut stderr = io::stderr().lock();
    // When stderr is gone there is nobody to tell.
    let _gone = writeln!(stderr, "error: {}", printable(&message(error)));
    if let Some(hint) = hint(error) {
        let _gone = writeln!(stderr, "hint: {}", printable(&hint));
    }
    ExitCode::from(code.unwrap_or_else(|| code_of(error)))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The chain of causes. Of what HTTP says about itself only the last cause helps anyone.
fn message(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut causes = error.chain().peekable();
    let mut in_http = false;
    while let Some(cause) = causes.next() {
        in_http |= cause.is::<HttpError>();
        let text = plain(cause.to_string());
        let is_said = parts.iter().any(|part| part.contains(&text));
        if !is_said && (!in_http || causes.peek().is_none()) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// The system's words without the number that says the same, and without the name of a file that was there for a moment.
fn plain(text: String) -> String {
    let Some((words, rest)) = text.split_once(" (os error ") else {
        return text;
    };
    let rest = rest.split_once(')').map_or("", |(_, rest)| rest);
    let rest = if rest.starts_with(" at path ") {
        ""
    } else {
        rest
    };
    format!("{words}{rest}")
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.hint.clone();
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return error.hint().map(str::to_owned);
    }
    let error = error.downcast_ref::<ClientError>()?;
    match error {
        ClientError::Unreachable { .. } => Some("start a server with `skerry up`".to_owned()),
        ClientError::Url { .. } => Some("write it as http://127.0.0.1:7300".to_owned()),
        _ => match error.code()? {
            ErrorCode::InternalError => {
                let request = error.request_id()?;
                Some(format!(
                    "the server's log says more about request {request}"
                ))
            }
            // The server's own hint speaks of headers.
            ErrorCode::Unauthorized => Some("set SKERRY_API_KEY or give --api-key".to_owned()),
            _ => error.hint().map(str::to_owned),
        },
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.code;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. }) => UNREACHABLE,
        Some(ClientError::Url { .. } | ClientError::Key) => USAGE,
        Some(error) => match error.code() {
            Some(ErrorCode::ValidationError | ErrorCode::BadRequest) => USAGE,
            Some(ErrorCode::NotFound | ErrorCode::Gone) => NOT_FOUND,
            Some(ErrorCode::Unauthorized | ErrorCode::Forbidden) => KEY,
            _ => FAILED,
        },
        None => FAILED,
    }
}
