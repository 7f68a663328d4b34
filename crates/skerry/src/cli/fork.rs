//! `fork` and `tree`: copies of a running sandbox, and the family they make.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use futures::future::try_join_all;
use skerry_api::{ForkMember, ForkSandbox, ForkTree};
use skerry_types::SandboxId;

use super::snapshot::Memory;
use super::{Context, Outcome, output, parse};

/// Fork a running sandbox with all its files, and print the ids of the forks
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry fork build
  skerry fork build -n 3 --name try      # try-1, try-2, try-3")]
pub(crate) struct ForkArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    /// How many
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=skerry_types::limits::MAX_FORKS as i64))]
    number: u32,
    /// A name for the fork; several get a number behind it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A variable over the parent's environment; without a value, the one it has here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    env: Vec<(String, String)>,
    /// It ends at this age: 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    ttl: Option<u64>,
    /// A note on it, to find it by
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::pair)]
    label: Vec<(String, String)>,
    /// The parent's memory and processes too: where the driver can, or nothing is done, or files only
    #[arg(long, value_enum, default_value_t = Memory::Auto)]
    memory: Memory,
}

impl ForkArgs {
    fn request(&self, number: u32) -> ForkSandbox {
        let name = self.name.as_ref().map(|name| match self.number {
            1 => name.clone(),
            _ => format!("{name}-{number}"),
        });
        ForkSandbox {
            env: parse::map(&self.env),
            ttl_seconds: self.ttl,
            name,
            metadata: parse::map(&self.label),
            memory: self.memory.into(),
        }
    }
}

pub(super) async fn fork(ctx: &Context, args: ForkArgs) -> Outcome {
    let parent = ctx.sandbox(&args.sandbox).await?;
    let requests: Vec<ForkSandbox> = (1..=args.number).map(|n| args.request(n)).collect();
    let forks = try_join_all(requests.iter().map(|request| parent.fork(request))).await?;
    if ctx.out.json {
        output::json(&forks)?;
    } else {
        for fork in forks {
            output::line(&fork.sandbox_id.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Show the family of forks that a sandbox belongs to
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry tree build")]
pub(crate) struct TreeArgs {
    /// Any member: its name, its id, or the first letters of its id
    sandbox: String,
}

pub(super) async fn tree(ctx: &Context, args: TreeArgs) -> Outcome {
    let tree = ctx.sandbox(&args.sandbox).await?.tree().await?;
    if ctx.out.json {
        output::json(&tree)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in draw(&tree) {
        output::line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(tree: &ForkTree) -> Vec<String> {
    let members: BTreeMap<SandboxId, &ForkMember> = tree
        .tree
        .iter()
        .map(|member| (member.sandbox_id, member))
        .collect();
    let mut lines = Vec::new();
    // A member, what stands before it, and what stands before its children.
    let mut left = vec![(tree.root, String::new(), String::new())];
    while let Some((id, head, indent)) = left.pop() {
        let Some(member) = members.get(&id) else {
            continue;
        };
        lines.push(format!("{head}{id}  {}", member.status));
        let last = member.children.len().saturating_sub(1);
        for (at, child) in member.children.iter().enumerate().rev() {
            let (branch, under) = if at == last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            left.push((
                *child,
                format!("{indent}{branch}"),
                format!("{indent}{under}"),
            ));
        }
    }
    lines
}
