//! `fork` and `tree`: copies of a running sandbox, and the family they make.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use skerry_api::{ForkMany, ForkMember, ForkOutcome, ForkSandbox, ForkTree};
use skerry_types::SandboxId;

use super::output::{self, note};
use super::snapshot::Memory;
use super::{Context, Outcome, parse};

/// Fork a running sandbox with all its files, and print the ids of the forks
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry fork build
  skerry fork build -n 3 --name try      # try-1, try-2, try-3")]
pub(crate) struct ForkArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    /// How many, all of one instant
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=skerry_types::limits::MAX_FORKS_AT_ONCE as i64))]
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
    /// The parent's memory and processes too: where the driver does it anyway (all but ns), or nothing is done, or files only
    #[arg(long, value_enum, default_value_t = Memory::Auto)]
    memory: Memory,
}

pub(super) async fn fork(ctx: &Context, args: ForkArgs) -> Outcome {
    let parent = ctx.sandbox(&args.sandbox).await?;
    let env = parse::map(&args.env);
    let metadata = parse::map(&args.label);
    if args.number > 1 {
        let request = ForkMany {
            count: args.number,
            env,
            ttl_seconds: args.ttl,
            name: args.name,
            metadata,
            memory: args.memory.into(),
        };
        return tell(ctx, parent.fork_many(&request).await?.forks);
    }
    let request = ForkSandbox {
        env,
        ttl_seconds: args.ttl,
        name: args.name,
        metadata,
        memory: args.memory.into(),
    };
    let fork = parent.fork(&request).await?;
    if ctx.out.json {
        output::json(&[&fork])?;
    } else {
        output::line(&fork.sandbox_id.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints those that were made; what was not is a note, and a failure.
fn tell(ctx: &Context, forks: Vec<ForkOutcome>) -> Outcome {
    let mut code = ExitCode::SUCCESS;
    let mut made = Vec::new();
    for fork in forks {
        if let Some(error) = &fork.error {
            note(&format!("error: {}: {}", fork.sandbox_id, error.message));
            code = ExitCode::FAILURE;
        }
        made.extend(fork.sandbox);
    }
    if ctx.out.json {
        output::json(&made)?;
    } else {
        for fork in made {
            output::line(&fork.sandbox_id.to_string())?;
        }
    }
    Ok(code)
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
        let name = member.name.iter().map(|name| format!("  {name}"));
        let name: String = name.collect();
        lines.push(format!("{head}{id}  {}{name}", member.status));
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
