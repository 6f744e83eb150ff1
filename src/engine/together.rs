//! Calls of one kind that come while others of it are under way are carried out together: with as many statements as one of them alone,
//! and one commit.
//!
//! Nobody waits for company: a call that finds a turn free is carried out at once, and those that come meanwhile are the next turn's.
//! When a turn takes long, because somebody holds a lock or a connection is silent, those who wait take another one beside it. Of one
//! customer there is one call in a turn, so that what is carried out together is independent. The server bounds how many calls it
//! lets in, and so how many wait.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::domain::CustomerId;

/// How many calls are carried out together at most.
const MOST: usize = 100;

/// How long a call waits for turns that are under way before it takes another one.
const PATIENCE: Duration = Duration::from_millis(50);

/// How many turns there are at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns {
    /// As a rule.
    pub(super) usual: usize,
    /// At most, where they take long.
    pub(super) most: usize,
}

/// A call about a customer.
pub(super) trait OfCustomer {
    /// Which.
    fn customer(&self) -> &CustomerId;
}

/// Calls of a kind, and where their answers go.
#[derive(Debug)]
pub(super) struct Together<Q, A> {
    turns: Turns,
    line: Mutex<Line<Q, A>>,
}

#[derive(Debug)]
struct Line<Q, A> {
    waiting: VecDeque<(Q, oneshot::Sender<A>)>,
    /// How many turns are taken.
    taken: usize,
}

/// A turn, which is given back when nobody waits, or when it breaks off.
struct Turn<Q, A> {
    together: Arc<Together<Q, A>>,
    is_given_back: bool,
}

impl<Q, A> Together<Q, A>
where
    Q: OfCustomer + Send + 'static,
    A: Send + 'static,
{
    pub(super) fn new(turns: Turns) -> Arc<Self> {
        let line = Line {
            waiting: VecDeque::new(),
            taken: 0,
        };
        Arc::new(Self {
            turns,
            line: Mutex::new(line),
        })
    }

    /// Has a call carried out, alone or with others, in a task that outlives whoever asks. Each kind of call is always carried out the
    /// same way, which gives an answer for each call, in their order. None: it broke off.
    pub(super) async fn ask<C, F>(self: &Arc<Self>, tracker: &TaskTracker, call: Q, carry_out: C) -> Option<A>
    where
        C: Fn(Vec<Q>) -> F + Clone + Send + 'static,
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let (sender, mut answer) = oneshot::channel();
        self.line().waiting.push_back((call, sender));
        let mut free = self.turns.usual;
        loop {
            if let Some(turn) = self.take_turn(free) {
                tracker.spawn(turn.carry_out(carry_out.clone()));
            }
            match tokio::time::timeout(PATIENCE, &mut answer).await {
                Ok(answer) => return answer.ok(),
                Err(_) => free = self.turns.most,
            }
        }
    }

    /// Takes a turn if somebody waits, and fewer than so many are taken.
    fn take_turn(self: &Arc<Self>, free: usize) -> Option<Turn<Q, A>> {
        let mut line = self.line();
        let is_free = line.taken < free && !line.waiting.is_empty();
        is_free.then(|| {
            line.taken += 1;
            Turn {
                together: Arc::clone(self),
                is_given_back: false,
            }
        })
    }
}

impl<Q: OfCustomer, A> Turn<Q, A> {
    /// Carries out calls as long as there are any.
    async fn carry_out<C, F>(mut self, carry_out: C)
    where
        C: Fn(Vec<Q>) -> F,
        F: Future<Output = Vec<A>>,
    {
        while let Some((calls, senders)) = self.next() {
            for (sender, answer) in senders.into_iter().zip(carry_out(calls).await) {
                // Whoever asked may have gone.
                let _ = sender.send(answer);
            }
        }
    }

    /// Those that are next; none: nobody waits, and the turn is given back.
    fn next(&mut self) -> Option<(Vec<Q>, Vec<oneshot::Sender<A>>)> {
        let mut line = self.together.line();
        let mut customers: HashSet<CustomerId> = HashSet::new();
        let (mut calls, mut senders, mut later) = (Vec::new(), Vec::new(), VecDeque::new());
        while calls.len() < MOST
            && let Some((call, sender)) = line.waiting.pop_front()
        {
            if customers.insert(call.customer().clone()) {
                calls.push(call);
                senders.push(sender);
            } else {
                later.push_back((call, sender));
            }
        }
        later.append(&mut line.waiting);
        line.waiting = later;
        if calls.is_empty() {
            // Under the same lock, so that whoever comes next finds it free.
            line.taken -= 1;
            self.is_given_back = true;
            return None;
        }
        Some((calls, senders))
    }
}

impl<Q, A> Drop for Turn<Q, A> {
    fn drop(&mut self) {
        if self.is_given_back {
            return;
        }
        let mut line = self.together.line();
        line.taken -= 1;
        if line.taken == 0 {
            // Nobody would come for them: their callers are told that it broke off.
            line.waiting.clear();
        }
    }
}

impl<Q, A> Together<Q, A> {
    fn line(&self) -> MutexGuard<'_, Line<Q, A>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tokio::sync::Semaphore;

    struct Call(CustomerId, u32);

    impl OfCustomer for Call {
        fn customer(&self) -> &CustomerId {
            &self.0
        }
    }

    fn call(customer: &str, number: u32) -> Call {
        Call(CustomerId::parse(customer).expect("an id"), number)
    }

    const ONE: Turns = Turns { usual: 1, most: 1 };

    /// The answer to a call is what was carried out with it. None is carried out before there is a permit.
    async fn ask(
        together: &Arc<Together<Call, Vec<u32>>>,
        tracker: &TaskTracker,
        gate: &Arc<Semaphore>,
        call: Call,
    ) -> Option<Vec<u32>> {
        let gate = Arc::clone(gate);
        let carry_out = move |calls: Vec<Call>| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("a gate").forget();
                let numbers: Vec<u32> = calls.iter().map(|call| call.1).collect();
                assert!(!numbers.contains(&0), "a call that breaks off");
                calls.iter().map(|_| numbers.clone()).collect()
            }
        };
        together.ask(tracker, call, carry_out).await
    }

    #[tokio::test]
    async fn calls_that_come_meanwhile_are_carried_out_together_but_for_those_of_one_customer() {
        let (together, tracker, gate) = (Together::new(ONE), TaskTracker::new(), Arc::new(Semaphore::new(0)));
        let calls = [
            call("anna", 1),
            call("bert", 2),
            call("anna", 3),
            call("carl", 4),
            call("anna", 5),
        ];
        let mut asked: Vec<_> = calls
            .into_iter()
            .map(|call| ask(&together, &tracker, &gate, call).boxed())
            .collect();
        for one in &mut asked {
            assert!(one.now_or_never().is_none(), "answered though nothing was carried out");
            // The first is under way before the second comes.
            tokio::task::yield_now().await;
        }
        gate.add_permits(10);
        let answers = futures::future::join_all(asked).await;
        let expected = [vec![1], vec![2, 3, 4], vec![2, 3, 4], vec![2, 3, 4], vec![5]];
        assert_eq!(answers, expected.map(Some));
        tracker.close();
        tracker.wait().await;
        assert_eq!(together.line().taken, 0);
    }

    #[tokio::test]
    async fn a_turn_that_breaks_off_leaves_nobody_waiting() {
        let (together, tracker, gate) = (Together::new(ONE), TaskTracker::new(), Arc::new(Semaphore::new(0)));
        let mut broken = ask(&together, &tracker, &gate, call("anna", 0)).boxed();
        assert!((&mut broken).now_or_never().is_none());
        tokio::task::yield_now().await;
        let mut behind = ask(&together, &tracker, &gate, call("bert", 1)).boxed();
        assert!((&mut behind).now_or_never().is_none());
        gate.add_permits(10);
        assert_eq!((broken.await, behind.await), (None, None));
        assert_eq!(ask(&together, &tracker, &gate, call("carl", 2)).await, Some(vec![2]));
    }

    #[tokio::test]
    async fn whoever_waits_for_long_takes_another_turn() {
        let (together, tracker) = (Together::new(Turns { usual: 1, most: 2 }), TaskTracker::new());
        let (gate, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
        let mut stuck = ask(&together, &tracker, &gate, call("anna", 1)).boxed();
        assert!((&mut stuck).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert_eq!(ask(&together, &tracker, &open, call("bert", 2)).await, Some(vec![2]));
        gate.add_permits(1);
        assert_eq!(stuck.await, Some(vec![1]));
    }
}
