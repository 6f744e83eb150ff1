//! `campaignd purge`: taking away what is old, from time to time.

use chrono::Duration;
use std::io::Write;
use tokio_util::sync::CancellationToken;

use crate::config::PurgeArgs;
use crate::domain::Timestamp;
use crate::engine;
use crate::signals::Interrupted;

/// Takes away what is older than asked for, and says how much that was. Told to end, it does so after what it has begun.
pub async fn purge(
    args: PurgeArgs,
    now: Timestamp,
    told: &CancellationToken,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let before = now - Duration::days(i64::from(args.older_than));
    let store = super::connect(&args.database).await?;
    store.check_schema().await?;
    let report = engine::purge(&store, before, told).await?;
    store.close().await?;
    writeln!(
        out,
        "from before {}: {} executions of ended runs, {} engagement events, {} ticks",
        before.format("%FT%TZ"),
        report.executions,
        report.engagements,
        report.ticks
    )?;
    if report.is_interrupted {
        return Err(Interrupted.into());
    }
    Ok(())
}
