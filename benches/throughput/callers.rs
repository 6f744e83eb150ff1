//! Many callers at a time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long calls took.
pub(crate) struct Calls {
    /// All of them together.
    pub(crate) took: Duration,
    /// Each of them.
    pub(crate) each: Vec<Duration>,
}

/// Makes calls of these numbers, each by whichever of the callers has come back from the one before. A call is given its caller, too.
pub(crate) async fn make<C, F>(callers: usize, numbers: Range<usize>, call: C) -> anyhow::Result<Calls>
where
    C: Fn(usize, usize) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (next, call) = (Arc::clone(&next), call.clone());
        tasks.spawn(async move {
            let mut each = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return anyhow::Ok(each);
                }
                let begun = Instant::now();
                call(caller, number).await?;
                each.push(begun.elapsed());
            }
        });
    }
    let mut each = Vec::new();
    while let Some(made) = tasks.join_next().await {
        each.extend(made??);
    }
    Ok(Calls {
        took: begun.elapsed(),
        each,
    })
}
