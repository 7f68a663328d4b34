//! `skerry doctor`: what this machine can do, and what would help it do more.

use crate::Global;

pub(crate) fn main(_global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
