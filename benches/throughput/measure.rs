//! What comes of measuring.

use std::fmt;
use std::time::Duration;

/// What nothing is measured beside.
pub(crate) const NO_FLOOR: f64 = f64::NAN;

pub(crate) fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) work: String,
    /// Per second, by round: what the floor reached, and what the service did. [`NO_FLOOR`] where there is none.
    pub(crate) rounds: Vec<(f64, f64)>,
    /// How long single pieces took, sorted.
    pub(crate) times: Vec<Duration>,
    /// Statements for each row that the service wrote.
    pub(crate) statements: f64,
}

impl Line {
    /// One with nothing measured yet.
    pub(crate) fn new(work: impl Into<String>) -> Self {
        Self {
            work: work.into(),
            rounds: Vec::new(),
            times: Vec::new(),
            statements: 0.0,
        }
    }

    /// Adds a round that is one piece: so many rows in a time, by so many statements.
    pub(crate) fn add_whole(&mut self, floor: f64, rows: usize, took: Duration, statements: u64) {
        self.rounds.push((floor, per_second(rows, took)));
        self.times.push(took);
        self.statements = statements as f64 / rows as f64;
    }

    /// The same when all is measured.
    pub(crate) fn sorted(mut self) -> Self {
        self.times.sort_unstable();
        self
    }

    pub(crate) const HEAD: &'static str =
        "work                 floor/s   service/s  ratio  (least)       p50       p99  statements/row  peak MiB";
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = |value: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = self.rounds.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            (values[0], values[values.len() / 2])
        };
        let ((_, floor), (_, service)) = (median(|round| round.0), median(|round| round.1));
        let (least, ratio) = median(|round| round.1 / round.0);
        let beside = if floor.is_nan() {
            format!("{:>9} {service:>11.0} {:>6}         ", "-", "-")
        } else {
            format!("{floor:>9.0} {service:>11.0} {ratio:>6.2}   ({least:.2})")
        };
        let at = |percent: usize| self.times[(self.times.len() - 1) * percent / 100];
        write!(
            f,
            "{:<18} {beside} {:>9.1?} {:>9.1?} {:>15.4} {:>9}",
            self.work,
            at(50),
            at(99),
            self.statements,
            memory(std::process::id(), "VmHWM") / 1024
        )
    }
}

/// How much memory a process has (`VmRSS`), or had at most (`VmHWM`), in KiB. This one's is with the floor's and the callers' share.
pub(crate) fn memory(process: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default()
}
