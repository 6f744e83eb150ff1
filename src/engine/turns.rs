//! From which timeline a tick claims next: from all in turn, and from a large one in two places at a time.

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
    /// After how many more claims it is split; none: never.
    splits_after: Option<u32>,
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
    /// Those of some timelines, each from its beginning. `splits`: a large one is split.
    pub(super) fn new(due: impl Iterator<Item = TimelineWake>, buckets: Buckets, splits: bool) -> Self {
        let turn = |wake| Turn {
            wake,
            cursor: Cursor::BEGIN,
            buckets,
            splits_after: splits.then_some(LARGE - 1),
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
        let halves = turn.buckets.halves().filter(|_| turn.splits_after == Some(0));
        self.put(|queue| match halves {
            Some(halves) => queue.extend(halves.map(|buckets| Turn {
                cursor: turn.cursor.clone(),
                buckets,
                splits_after: None,
                ..turn
            })),
            None => queue.push_back(Turn {
                splits_after: turn.splits_after.map(|claims| claims.saturating_sub(1)),
                ..turn
            }),
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

    fn turns(timelines: i64, splits: bool) -> Turns {
        let wake = |id| TimelineWake {
            id: TimelineId(id),
            revision: 1,
            earliest: Timestamp::UNIX_EPOCH,
        };
        Turns::new((1..=timelines).map(wake), Buckets::ALL, splits)
    }

    fn id(turn: &Turn) -> i64 {
        turn.wake.id.0
    }

    #[tokio::test]
    async fn all_have_their_turn_and_one_that_was_not_served_is_first_again() {
        let turns = turns(3, false);
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
        let turns = turns(1, true);
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
    async fn nobody_waits_when_it_is_closed() {
        let turns = turns(1, true);
        let taken = turns.next().await.expect("a turn");
        let mut other = Box::pin(turns.next());
        assert!(poll!(&mut other).is_pending());
        turns.close();
        assert!(matches!(poll!(&mut other), Poll::Ready(None)));
        turns.put_last(taken);
        assert!(turns.next().await.is_none(), "what is put back later is gone");
    }
}
