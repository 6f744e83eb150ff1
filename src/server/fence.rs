//! `campaignd fence`: what is done after a backup was restored, before any server starts.

use std::io::Write;

use crate::config::FenceArgs;
use crate::domain::{Channel, Timestamp};
use crate::engine::{FenceReport, FenceRuns, fence_runs};

/// Ends what may have been sent since the backup was taken, and says what that was.
pub async fn fence(args: FenceArgs, now: Timestamp, out: &mut impl Write) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.before <= now,
        "--before {} is to come: it is when the service was last up, before the backup was restored",
        args.before.format("%FT%TZ")
    );
    let store = super::connect(&args.database).await?;
    store.check_schema().await?;
    let command = FenceRuns {
        before: args.before,
        resend: args.resend_email,
        dry_run: args.dry_run,
    };
    let report = fence_runs(&store, command).await?;
    store.close().await?;
    Ok(print(&report, command, out)?)
}

fn print(report: &FenceReport, command: FenceRuns, out: &mut impl Write) -> std::io::Result<()> {
    let time = |at: Timestamp| at.format("%FT%TZ").to_string();
    let last_tick = report.last_tick.map_or_else(|| "none".to_owned(), time);
    writeln!(
        out,
        "{}before {}, last tick in the backup: {last_tick}",
        if command.dry_run { "nothing is changed; " } else { "" },
        time(command.before)
    )?;
    if let Some(since) = report.tick_since {
        writeln!(
            out,
            "warning: there is a tick at {}: a server has run since the backup was restored, or --before is earlier than the backup",
            time(since)
        )?;
    }
    let counts = &report.counts;
    writeln!(
        out,
        "{} live runs, {} with something to fence; {} came to a later day, {} to their end",
        report.runs, report.changed, counts.advanced_runs, counts.completed_runs
    )?;
    for (channel, counts) in Channel::ALL
        .iter()
        .filter_map(|channel| Some((channel, counts.channels.get(channel)?)))
    {
        let outcomes = [
            ("unknown", counts.unknown),
            ("to be sent again", counts.retrying),
            ("expired", counts.expired),
            ("failed", counts.failed),
            ("skipped", counts.skipped),
            ("completed", counts.completed),
            ("put off", counts.deferred),
        ];
        let outcomes: Vec<String> = outcomes
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        writeln!(out, "{}: {}", channel.as_str(), outcomes.join(", "))?;
    }
    Ok(())
}
