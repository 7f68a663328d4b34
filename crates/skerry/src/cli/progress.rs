//! Progress bars, on a terminal only.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::printable;

const KNOWN: &str = "{msg:<24!} {wide_bar} {bytes:>10} of {total_bytes}  {bytes_per_sec}";
const UNKNOWN: &str = "{msg:<24!} {spinner} {bytes:>10}  {bytes_per_sec}";
const NOT_BYTES: &str = "{spinner} {wide_msg}";

/// How far long work has come.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// `total` in bytes, if anyone knows.
    pub(crate) fn start(what: &str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        // It may be a file's name, which a sandbox chose.
        bar.set_message(printable(what).replace('\n', " "));
        let progress = Self(bar);
        progress.style(if total.is_some() { KNOWN } else { UNKNOWN });
        progress.0.enable_steady_tick(Duration::from_millis(200));
        progress
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }

    /// On a terminal.
    pub(crate) fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }

    /// A new step; `total` 0: nobody knows.
    pub(crate) fn set(&self, what: String, done: u64, total: u64) {
        self.style(match (done, total) {
            (0, 0) => NOT_BYTES,
            (_, 0) => UNKNOWN,
            _ => KNOWN,
        });
        self.0.set_message(what);
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
