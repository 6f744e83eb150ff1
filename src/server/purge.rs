//! `campaignd purge`: taking away what is old, from time to time.

use chrono::Duration;
use std::io::Write;

use crate::config::PurgeArgs;
use crate::domain::Timestamp;
use crate::engine;

/// Takes away what is older than asked for, and says how much that was.
pub async fn purge(args: PurgeArgs, now: Timestamp, out: &mut impl Write) -> anyhow::Result<()> {
    let before = now - Duration::days(i64::from(args.older_than));
    let store = super::connect(&args.database).await?;
    store.check_schema().await?;
    let report = engine::purge(&store, before).await?;
    store.close().await?;
    writeln!(
        out,
        "from before {}: {} executions of ended runs, {} engagement events, {} ticks",
        before.format("%FT%TZ"),
        report.executions,
        report.engagements,
        report.ticks
    )?;
    Ok(())
}
