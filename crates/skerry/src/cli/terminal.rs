//! Our terminal as the terminal of a program in a sandbox.

use std::io::{self, IsTerminal};

use bytes::BytesMut;
use rustix::termios::{self, OptionalActions, Termios};
use skerry_client::{Exit, Sandbox, TerminalEvent};
use skerry_types::ExecId;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{self, SignalKind};

use super::failure::Failure;
use super::keys::DetachKeys;
use super::output;

const INPUT_BYTES: usize = 16 * 1024;

/// How we left a terminal.
pub(crate) enum Left {
    /// Its program ended.
    Ended(Exit),
    /// It runs on without us.
    Detached,
}

/// The size of our terminal: columns and rows.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Uses a terminal until its program ends or the keys are typed. Only what is typed on a terminal of ours goes to it.
pub(crate) async fn attach(
    sandbox: &Sandbox,
    exec: ExecId,
    mut keys: DetachKeys,
) -> anyhow::Result<Left> {
    let mut terminal = sandbox.attach_terminal(exec, 0).await?;
    let mut resized = unix::signal(SignalKind::window_change())?;
    let mut term = unix::signal(SignalKind::terminate())?;
    let mut hup = unix::signal(SignalKind::hangup())?;
    // Until the end of this function, however it ends.
    let _raw = RawMode::enter()?;
    if let Some((cols, rows)) = size() {
        terminal.resize(cols, rows).await?;
    }
    let mut stdin = tokio::io::stdin();
    let mut typed = BytesMut::with_capacity(INPUT_BYTES);
    let mut input_over = !io::stdin().is_terminal();
    loop {
        tokio::select! {
            event = terminal.next() => match event? {
                TerminalEvent::Output(bytes) => output::bytes(&bytes)?,
                TerminalEvent::Exit(exit) => return Ok(Left::Ended(exit)),
            },
            read = stdin.read_buf(&mut typed), if !input_over => {
                input_over = read? == 0;
                let (on, leave) = keys.pass(&typed.split());
                if !on.is_empty() {
                    terminal.write(on.into()).await?;
                }
                if leave {
                    return Ok(Left::Detached);
                }
                typed.reserve(INPUT_BYTES);
            }
            _ = resized.recv() => {
                if let Some((cols, rows)) = size() {
                    terminal.resize(cols, rows).await?;
                }
            }
            _ = term.recv() => return Err(Failure::failed("terminated").into()),
            _ = hup.recv() => return Err(Failure::failed("the terminal is gone").into()),
        }
    }
}

/// Our terminal passes each key on as it is typed, until this is dropped.
struct RawMode(Option<Termios>);

impl RawMode {
    fn enter() -> io::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs nothing.
            let _gone = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
