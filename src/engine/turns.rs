//! From which timeline a tick claims next: from all in turn, and from a large one in two places at a time, or shard by shard.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

use crate::store::{Buckets, Cursor, TimelineWake};

/// A timeline, or a part of its customers, and how far the tick is with them.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) wake: TimelineWake,
    pub(super) cursor: Cursor,
    pub(super) buckets: Buckets,
    /// How it is split, and after how many more claims; none: never.
    splits: Option<(Split, u32)>,
}

/// How a large timeline is served in several places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// In two.
    Halves,
    /// In each shard on its own, from the second claim on.
    Shards,
}

impl Split {
    fn claims_before(self) -> u32 {
        match self {
            Self::Halves => LARGE - 1,
            Self::Shards => 0,
        }
    }

    fn parts(self, buckets: Buckets) -> Vec<Buckets> {
        match self {
            Self::Halves => buckets.halves().map_or_else(Vec::new, Vec::from),
            Self::Shards => buckets.within_shards(),
        }
    }
}

/// How many claims are made in one place before a timeline counts as large. Fewer would end with two that are half empty.
const LARGE: u32 = 4;

/// All that have something due, shared by whoever claims for a tick.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    /// Told when there is a turn again, or will be none.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Turn>,
    /// How many were taken, and may be put back.
    taken: usize,
}

impl Turns {
    /// Those of some timelines, each from its beginning. `split`: how a large one is split.
    pub(super) fn new(due: impl Iterator<Item = TimelineWake>, buckets: Buckets, split: Option<Split>) -> Self {
        let turn = |wake| Turn {
            wake,
            cursor: Cursor::BEGIN,
            buckets,
            splits: split.map(|split| (split, split.claims_before())),
        };
        Self {
            state: Mutex::new(State {
                queue: due.map(turn).collect(),
                taken: 0,
            }),
            changed: Notify::new(),
        }
    }

    /// Takes the next, and waits for it while others have what they may put back. None: all is done.
    pub(super) async fn next(&self) -> Option<Turn> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if let Some(turn) = state.queue.pop_front() {
                    state.taken += 1;
                    return Some(turn);
                }
                if state.taken == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// How many wait for their turn.
    pub(super) fn len(&self) -> usize {
        self.state().queue.len()
    }

    /// Puts one back that could not be served.
    pub(super) fn put_first(&self, turn: Turn) {
        self.put(|queue| queue.push_front(turn));
    }

    /// Puts one back that can't be served now, after all others.
    pub(super) fn put_last(&self, turn: Turn) {
        self.put(|queue| queue.push_back(turn));
    }

    /// Puts one back from which was claimed, and that has more, after all others.
    pub(super) fn put_claimed(&self, turn: Turn) {
        let parts = match turn.splits {
            Some((split, 0)) => split.parts(turn.buckets),
            Some(_) | None => Vec::new(),
        };
        self.put(|queue| {
            if parts.len() > 1 {
                queue.extend(parts.into_iter().map(|buckets| Turn {
                    cursor: turn.cursor.clone(),
                    buckets,
                    splits: None,
                    ..turn
                }));
            } else {
                let splits = turn.splits.map(|(split, claims)| (split, claims.saturating_sub(1)));
                queue.push_back(Turn { splits, ..turn });
            }
        });
    }

    /// One that was taken has nothing more.
    pub(super) fn drop_one(&self) {
        self.put(|_| ());
    }

    /// Nobody gets another turn.
    pub(super) fn close(&self) {
        *self.state() = State {
            queue: VecDeque::new(),
            taken: 0,
        };
        self.changed.notify_waiters();
    }

    fn put(&self, put: impl FnOnce(&mut VecDeque<Turn>)) {
        let mut state = self.state();
        // None is taken where it was closed meanwhile.
        if let Some(taken) = state.taken.checked_sub(1) {
            state.taken = taken;
            put(&mut state.queue);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TimelineId, Timestamp};
    use futures::poll;
    use std::task::Poll;

    fn turns(timelines: i64, split: Option<Split>) -> Turns {
        let wake = |id| TimelineWake {
            id: TimelineId(id),
            revision: 1,
            earliest: Timestamp::UNIX_EPOCH,
        };
        Turns::new((1..=timelines).map(wake), Buckets::ALL, split)
    }

    fn id(turn: &Turn) -> i64 {
        turn.wake.id.0
    }

    #[tokio::test]
    async fn all_have_their_turn_and_one_that_was_not_served_is_first_again() {
        let turns = turns(3, None);
        let mut order = Vec::new();
        for again in [true, true, false, true, false, false] {
            let turn = turns.next().await.expect("a turn");
            order.push(id(&turn));
            if again && order.len() == 2 {
                turns.put_first(turn);
            } else if again {
                turns.put_last(turn);
            } else {
                turns.drop_one();
            }
        }
        assert_eq!(order, [1, 2, 2, 3, 1, 3]);
        assert!(turns.next().await.is_none());
    }

    #[tokio::test]
    async fn a_large_one_is_served_in_two_places_once() {
        let turns = turns(1, Some(Split::Halves));
        for _ in 1..LARGE {
            let whole = turns.next().await.expect("a turn");
            assert_eq!((whole.buckets, turns.len()), (Buckets::ALL, 0));
            turns.put_claimed(whole);
        }
        let whole = turns.next().await.expect("a turn");
        let mut other = Box::pin(turns.next());
        assert!(poll!(&mut other).is_pending(), "it may be put back");
        turns.put_claimed(whole);
        let (Some(lower), Some(upper)) = (turns.next().await, other.await) else {
            panic!("no halves");
        };
        assert_eq!(
            Some([lower.buckets, upper.buckets]),
            Buckets::ALL.halves(),
            "each has its half"
        );
        turns.put_claimed(lower);
        turns.drop_one();
        let again = turns.next().await.expect("a half");
        turns.put_claimed(again);
        assert_eq!(turns.len(), 1, "a half is not split");
    }

    #[tokio::test]
    async fn where_there_are_shards_each_is_served_on_its_own() {
        let turns = turns(1, Some(Split::Shards));
        let whole = turns.next().await.expect("a turn");
        turns.put_claimed(whole);
        let mut served = Vec::new();
        while turns.len() > 0 {
            served.push(turns.next().await.expect("a part").buckets);
            turns.drop_one();
        }
        assert_eq!(served, Buckets::ALL.within_shards());
    }

    #[tokio::test]
    async fn nobody_waits_when_it_is_closed() {
        let turns = turns(1, Some(Split::Halves));
        let taken = turns.next().await.expect("a turn");
        let mut other = Box::pin(turns.next());
        assert!(poll!(&mut other).is_pending());
        turns.close();
        assert!(matches!(poll!(&mut other), Poll::Ready(None)));
        turns.put_last(taken);
        assert!(turns.next().await.is_none(), "what is put back later is gone");
    }
}
