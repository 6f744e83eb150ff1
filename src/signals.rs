//! Programs that end when they are told, before they are done: by SIGTERM, as Kubernetes has it, or by SIGINT.
//!
//! In a container a program is the first process, which no signal ends by itself: one that does nothing about SIGTERM goes on until it is
//! killed, half a minute later.

use std::pin::Pin;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of what was ended: as that of whatever should be tried again.
pub const TRY_AGAIN: u8 = 75;

/// How long what is under way may take to come to its end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A program was told to end before it was done. What it had committed stays, and nothing is half done.
#[derive(Debug, thiserror::Error)]
#[error("ended by a signal before it was done: what was committed stays, and the next run does the rest")]
pub struct Interrupted;

/// Does something until it is done or a signal comes, which it hears of by a token. It ends then by itself, at its next safe place; a
/// second signal ends it where it is, and so does an end that does not come.
pub async fn until_told<T, W>(work: impl FnOnce(CancellationToken) -> W) -> anyhow::Result<T>
where
    W: Future<Output = anyhow::Result<T>>,
{
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = CancellationToken::new();
    let mut work = std::pin::pin!(work(told.clone()));
    let signal = tokio::select! {
        done = &mut work => return done,
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("stopping, as {signal} came: what has begun is brought to its end");
    told.cancel();
    tokio::select! {
        done = &mut work => done,
        () = tokio::time::sleep(ENDS_WITHIN) => Err(Interrupted.into()),
        _ = terminate.recv() => Err(Interrupted.into()),
        _ = interrupt.recv() => Err(Interrupted.into()),
    }
}

/// Does something that may end anywhere: what is not committed is as if it had not begun. It is on the heap, as it is most of what a
/// program does, and who waits for it stays small.
pub async fn until_told_anywhere<T>(work: Pin<Box<impl Future<Output = anyhow::Result<T>>>>) -> anyhow::Result<T> {
    until_told(async |told| {
        told.run_until_cancelled(work)
            .await
            .unwrap_or_else(|| Err(Interrupted.into()))
    })
    .await
}
