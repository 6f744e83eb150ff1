//! Shows how far the demo is: a bar on a terminal, a line now and then elsewhere. On standard error, as the report is
//! what the program is asked for.

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};

use super::play::Counts;

/// A line is written once in so many days.
const DAYS_PER_LINE: u32 = 15;

/// Shows how far the demo is.
#[derive(Debug)]
pub(super) struct Meter {
    bar: Option<ProgressBar>,
    days: u32,
}

impl Meter {
    pub(super) fn new(days: u32) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "  {bar:36.cyan/dim} day {pos:>2} of {len}  {msg}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(u64::from(days)), ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { bar, days }
    }

    /// Says that `day` days have passed and what was done until `now`.
    pub(super) fn show(&self, day: u32, now: DateTime<Utc>, counts: Counts) {
        let Counts {
            completed,
            skipped,
            failed,
            ..
        } = counts;
        let date = now.format("%e %b %Y");
        let message = format!("{date}  {completed} done, {skipped} skipped, {failed} failed");
        match &self.bar {
            Some(bar) => {
                bar.set_message(message);
                bar.set_position(u64::from(day));
            }
            None if day.is_multiple_of(DAYS_PER_LINE) || day == self.days => {
                // Nobody is harmed when progress can't be shown.
                let _ = writeln!(std::io::stderr(), "  day {day:>2} of {}  {message}", self.days);
            }
            None => {}
        }
    }

    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
