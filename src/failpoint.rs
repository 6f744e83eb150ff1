//! Places at which a test ends the process, or stops it as a machine may. Without the feature `test-support`, which every test
//! build has and no release, [`reach`] is nothing.
//!
//! The variable `CAMPAIGN_FAILPOINT` arms one: `after_send=kill@3` kills the process, as SIGKILL does, when it comes there for the
//! third time; `before_record_commit=stop` stops it there, as SIGSTOP does, when it comes there first; `plan=panic` panics there.

/// A place. What is "before" a commit is after all of its statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// Before the claim of a batch is committed.
    BeforeClaimCommit,
    /// After it, before anything of it is sent.
    AfterClaimCommit,
    /// A message is about to be handed to its sender.
    BeforeSend,
    /// Its sender has answered, and nobody knows yet.
    AfterSend,
    /// Before a group of outcomes is committed.
    BeforeRecordCommit,
    /// After it.
    AfterRecordCommit,
    /// Before leases that are prolonged are committed.
    Heartbeat,
    /// Before runs that are moved to their next day in bulk are committed.
    DayAdvance,
    /// Before a call that changes something is committed with its answer, such as a start or a change of stage.
    BeforeCallCommit,
    /// After it, before anybody is answered.
    AfterCallCommit,
    /// A run is about to be planned.
    Plan,
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::BeforeClaimCommit,
        Self::AfterClaimCommit,
        Self::BeforeSend,
        Self::AfterSend,
        Self::BeforeRecordCommit,
        Self::AfterRecordCommit,
        Self::Heartbeat,
        Self::DayAdvance,
        Self::BeforeCallCommit,
        Self::AfterCallCommit,
        Self::Plan,
    ];

    /// Its name in the variable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeClaimCommit => "before_claim_commit",
            Self::AfterClaimCommit => "after_claim_commit",
            Self::BeforeSend => "before_send",
            Self::AfterSend => "after_send",
            Self::BeforeRecordCommit => "before_record_commit",
            Self::AfterRecordCommit => "after_record_commit",
            Self::Heartbeat => "heartbeat",
            Self::DayAdvance => "day_advance",
            Self::BeforeCallCommit => "before_call_commit",
            Self::AfterCallCommit => "after_call_commit",
            Self::Plan => "plan",
        }
    }
}

/// The process comes to a place.
#[cfg(not(feature = "test-support"))]
#[inline]
pub fn reach(_: Failpoint) {}

#[cfg(feature = "test-support")]
pub use armed::reach;

#[cfg(feature = "test-support")]
mod armed {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Failpoint;

    struct Armed {
        at: Failpoint,
        /// None: it panics.
        signal: Option<Signal>,
        /// How many times more it is passed, this one included.
        times: AtomicU32,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// The process comes to a place.
    ///
    /// # Panics
    ///
    /// Where `CAMPAIGN_FAILPOINT` says so, and where it can't be read: a test that arms nothing proves nothing.
    pub fn reach(at: Failpoint) {
        let armed = ARMED.get_or_init(|| {
            let given = std::env::var("CAMPAIGN_FAILPOINT").ok()?;
            Some(parse(&given).unwrap_or_else(|| panic!("CAMPAIGN_FAILPOINT: {given:?} is not place=kill@times")))
        });
        if let Some(armed) = armed.as_ref().filter(|armed| armed.at == at)
            && armed.times.fetch_sub(1, Ordering::SeqCst) == 1
        {
            match armed.signal {
                Some(signal) => {
                    let _ = kill_process(getpid(), signal);
                    // The signal may be taken by another thread, and this one shall not go on meanwhile.
                    #[expect(clippy::disallowed_methods, reason = "this process ends")]
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                None => panic!("CAMPAIGN_FAILPOINT says so"),
            }
        }
    }

    fn parse(given: &str) -> Option<Armed> {
        let (place, action) = given.split_once('=')?;
        let (signal, times) = action.split_once('@').unwrap_or((action, "1"));
        Some(Armed {
            at: Failpoint::ALL.into_iter().find(|at| at.as_str() == place)?,
            signal: match signal {
                "kill" => Some(Signal::KILL),
                "stop" => Some(Signal::STOP),
                "panic" => None,
                _ => return None,
            },
            times: AtomicU32::new(times.parse().ok().filter(|times| *times > 0)?),
        })
    }
}
