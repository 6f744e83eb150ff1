//! How fast the service works beside what its database does with the same rows.
//!
//! `DATABASE_URL=postgres://postgres@127.0.0.1/postgres cargo bench --bench throughput` measures on that server, in databases of
//! its own that it drops, as a superuser; without the variable it measures on `SQLite`, every commit forced to the disk. It prints
//! a table with a line for each kind of work:
//!
//! - *floor*: the rows that the work has to write, written by plain SQL in batches over two connections, with the same durability;
//! - *service*: the same work asked of a server in this process, by gRPC as its callers do;
//! - *ratio*: the median of what each round's service reached of that round's floor. Both take turns, so that noise of the
//!   machine meets both, and each begins on a table that was vacuumed.
//!
//! Three kinds of work are measured beside other programs: calls about one customer each beside as many clients of `pgbench`, mails beside
//! `smtp-source` of Postfix (`apt-get install postfix`, whose service need not run), and how much memory `campaignd` takes beside
//! nothing.
//!
//! Some lines are beside others: the hourly tick of real campaigns beside that of plain ones with as many mails (`hourly-real`), after 90
//! days beside the first day (`hourly-day-90`), and ticks among more and more runs beside those among 100,000 (`growth`, which also
//! draws `benches/growth.svg`).
//!
//! With `DISTRIBUTE` beside it `DATABASE_URL` is a database of a Citus cluster, as `tests/citus/cluster.sh` makes one. It is emptied, and
//! the service's tables are distributed; the floor stays on the coordinator.
//!
//! `ONLY` names the lines to measure, with commas; `ROUNDS` is how often (3), `DUE` how many actions the hourly tick carries out
//! (200,000), `ACTIVE` how many runs there are for the daily tick, for one that finds nothing, for lateness and fairness, and for memory
//! (1,000,000), `GROWTH` how far the tables grow (10,000,000), `CALLS` how many calls about one customer there are (50,000), `STORED` how
//! many rows the bulk calls store (200,000), `MAILS` how many mails go to the mail server (20,000). `PLANS=1` has the line `idle` show the
//! query plans of a tick, too. With `PIPELINING=0` the mail server, too, waits for each command.

#![expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]

mod app;
mod bulk;
mod callers;
mod calls;
mod daily;
mod floor;
mod growth;
mod hourly;
mod idle;
mod measure;
mod memory;
mod place;
mod plans;
mod programs;
mod real;
mod senders;
mod smtp;

use anyhow::{Context as _, bail};
use std::io::Write as _;

use measure::Line;
use plans::Plans;

/// What is measured, and how much of it.
#[derive(Debug, Clone)]
struct Plan {
    only: Vec<String>,
    rounds: usize,
    due: usize,
    active: usize,
    growth: usize,
    calls: usize,
    stored: usize,
    mails: usize,
}

impl Plan {
    fn from_environment() -> anyhow::Result<Self> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(given) => given.parse().with_context(|| format!("{name} is no number: {given}")),
            Err(_) => Ok(default),
        };
        let only = std::env::var("ONLY").unwrap_or_default();
        let only = only.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self {
            only: only.collect(),
            rounds: number("ROUNDS", 3)?.max(1),
            due: number("DUE", 200_000)?,
            active: number("ACTIVE", 1_000_000)?,
            growth: number("GROWTH", 10_000_000)?,
            calls: number("CALLS", 50_000)?.next_multiple_of(programs::CLIENTS),
            stored: number("STORED", 200_000)?.next_multiple_of(bulk::BATCH),
            mails: number("MAILS", 20_000)?,
        })
    }

    /// How many days a timeline needs so that each round has one, beside the first.
    fn days(&self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.rounds)? + 1)
    }
}

/// The lines of the table, by the names that `ONLY` takes.
const WORK: [&str; 16] = [
    "hourly",
    "hourly-10ms",
    "hourly-real",
    "hourly-day-90",
    "lateness",
    "fairness",
    "daily",
    "daily-due",
    "idle",
    "engagements",
    "start",
    "start-bulk",
    "progress",
    "smtp",
    "memory",
    "growth",
];

/// Measures what has this name; what the table says of it.
async fn measure(name: &str, plan: &Plan, plans: Option<&Plans>) -> anyhow::Result<String> {
    let line = match name {
        "hourly" => hourly::measure(plan, hourly::AT_ONCE).await?,
        "hourly-10ms" => hourly::measure(plan, hourly::IN_10_MS).await?,
        "hourly-real" => real::first_day(plan).await?,
        "hourly-day-90" => real::many_days(plan).await?,
        "lateness" => hourly::lateness(plan).await?,
        "fairness" => hourly::fairness(plan).await?,
        "daily" => daily::measure(plan, daily::Days::WithoutActions).await?,
        "daily-due" => daily::measure(plan, daily::Days::WithActions).await?,
        "idle" => {
            return Ok(idle::measure(plan, plans)
                .await?
                .map(|line| line.to_string())
                .join("\n"));
        }
        "engagements" => bulk::engagements(plan).await?,
        "start" => calls::start(plan).await?,
        "start-bulk" => bulk::start(plan).await?,
        "progress" => match calls::progress(plan).await? {
            Some(lines) => return Ok(lines.map(|line| line.to_string()).join("\n")),
            None => return Ok("progress           no line on SQLite, which has no pgbench".to_owned()),
        },
        "smtp" => return Ok(smtp::measure(plan).await?.map(|line| line.to_string()).join("\n")),
        "memory" => return Ok(memory::measure(plan).await?.to_string()),
        "growth" => {
            let lines = growth::measure(plan).await?;
            return Ok(lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
        other => bail!("nothing is called {other}; there are {}", WORK.join(", ")),
    };
    Ok(line.to_string())
}

/// As `campaignd` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = Plan::from_environment()?;
    let plans = std::env::var("PLANS").is_ok_and(|given| given == "1").then(Plans::keep);
    let mut out = std::io::stdout();
    let names: Vec<String> = if plan.only.is_empty() {
        WORK.map(str::to_owned).into()
    } else {
        plan.only.clone()
    };
    writeln!(out, "{}", Line::HEAD)?;
    for name in names {
        let line = measure(&name, &plan, plans.as_ref())
            .await
            .with_context(|| name.clone())?;
        writeln!(out, "{line}")?;
    }
    Ok(())
}
