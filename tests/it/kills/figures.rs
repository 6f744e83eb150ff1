//! What was found, as rows of a table in Markdown.

use std::ops::AddAssign;

use super::rig::Way;
use crate::support::Backend;

/// The head of the table. Sorted in the C locale, its lines come before all rows.
const HEAD: &str = "\
|  window | channel | database | kills | messages due | arrived | again, unrecorded at a kill | again, recorded | unknown | lost |
| --- | --- | --- | --: | --: | --: | --: | --: | --: | --: |";

/// What was found in one world or several that are alike.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Kills that landed.
    pub kills: usize,
    pub due: usize,
    /// Messages that arrived, each counted once.
    pub arrived: usize,
    /// How often one arrived again that had arrived and was not recorded at a kill.
    pub repeated: usize,
    /// How often one arrived again that was recorded at each kill.
    pub unexplained: usize,
    /// Messages of which nobody knows whether they arrived, for good.
    pub unknown: usize,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        self.due += other.due;
        self.arrived += other.arrived;
        self.repeated += other.repeated;
        self.unexplained += other.unexplained;
        self.unknown += other.unknown;
    }
}

impl Figures {
    /// Prints a row, with the head before it: sorted and without repetitions, all rows are one table.
    pub(super) fn print(&self, window: &str, way: Way, backend: Backend) {
        let channel = match way {
            Way::Mail => "mail",
            Way::Text => "text",
        };
        let database = match backend {
            Backend::Sqlite => "SQLite",
            Backend::Postgres => "PostgreSQL",
        };
        let Self {
            kills, due, arrived, ..
        } = self;
        // What is lost ends the test.
        let counts = [self.repeated, self.unexplained, self.unknown, 0].map(|count| self.bounded(count));
        let counts = counts.join(" | ");
        // A line of its own, whatever the test's harness has left open.
        eprintln!("\n{HEAD}\n| {window} | {channel} | {database} | {kills} | {due} | {arrived} | {counts} |");
    }

    /// A count, and of none the share of kills above which it is not, with 95 % certainty: by the rule of three, what did not
    /// happen in n independent trials happens in less than 3/n of all. A trial is a kill; the messages of one kill share its fate.
    fn bounded(&self, count: usize) -> String {
        if count > 0 || self.kills < 4 {
            return count.to_string();
        }
        let hundredths = 30_000_usize.div_ceil(self.kills);
        format!("0 (< {}.{:02} %)", hundredths / 100, hundredths % 100)
    }
}
