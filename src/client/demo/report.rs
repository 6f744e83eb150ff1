//! The report: what became of everybody, from what the API answered. Pure: the same answers give the same text.

mod paint;
mod row;
mod words;

pub(super) use paint::Paint;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::timestamp;
use crate::proto::campaign::v1::{Customer, Engagement, NextAction, Progress, ProgressStatus, TimelineDefinition};
use paint::Colour;
use row::{Kind, Result, Row};

/// What became of everybody.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) timeline: TimelineDefinition,
    /// Names of the campaigns, by id.
    pub(super) campaigns: BTreeMap<String, String>,
    pub(super) people: Vec<Person>,
}

/// What became of one customer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Person {
    pub(super) customer: Customer,
    pub(super) behaviour: &'static str,
    pub(super) runs: Vec<Progress>,
    pub(super) engagements: Vec<Engagement>,
    pub(super) events: Vec<Event>,
}

/// Something that happened to a customer, beside the actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) customer_id: String,
    pub(super) at: DateTime<Utc>,
    pub(super) text: String,
}

/// How wide the bar of a run is.
const BAR: u8 = 30;

/// The text for all of their runs, and the totals.
pub(super) fn report(outcome: &Outcome, paint: Paint) -> String {
    let runs = outcome
        .people
        .iter()
        .flat_map(|person| person.runs.iter().map(move |run| (person, run)));
    let runs: Vec<_> = runs
        .map(|(person, run)| (person, run, row::rows(outcome, person, run)))
        .collect();
    let rows = || runs.iter().flat_map(|(_, _, rows)| rows);
    let width = rows().map(|row| row.title.chars().count()).max().unwrap_or_default();

    let mut text = String::new();
    for (person, run, rows) in &runs {
        text.push_str(&one_run(person, run, rows, width, paint));
        text.push('\n');
    }
    text.push_str(&totals(&rows(), outcome.people.len(), paint));
    text.push('\n');
    text
}

fn headline(person: &Person, zone: &str, paint: Paint) -> String {
    let name = paint.bold(&person.customer.display_name);
    format!("{name} · {} · {}", zone, paint.colour(Colour::Cyan, person.behaviour))
}

fn one_run(person: &Person, run: &Progress, rows: &[Row], width: usize, paint: Paint) -> String {
    let zone: Tz = run.time_zone.parse().unwrap_or(Tz::UTC);
    let lines = rows.iter().map(|row| (row.at, line(row, width, zone, paint)));
    let mut lines: Vec<(DateTime<Utc>, String)> = lines.collect();
    for event in &person.events {
        let date = date(event.at, zone);
        let event_line = format!(
            "          {date}  {}",
            paint.colour(Colour::Cyan, &format!("*  {}", event.text))
        );
        let place = lines.partition_point(|(at, _)| *at < event.at);
        lines.insert(place, (event.at, event_line));
    }
    let mut text = headline(person, &run.time_zone, paint);
    for (_, line) in lines {
        text.push('\n');
        text.push_str(line.trim_end());
    }
    text.push('\n');
    text.push_str(&ending(run, rows, zone, paint));
    text
}

/// One action: its day, when something came of it by the customer's clock, what, and why.
fn line(row: &Row, width: usize, zone: Tz, paint: Paint) -> String {
    let Row { day, kind, result, .. } = row;
    let word = paint.colour(colour(*result, *kind), &format!("{:<8}", row.word()));
    let what = format!("{:<4}  {:<8}  {:<width$}", kind.as_str(), row.campaign_id, row.title);
    let what = if kind.is_message() {
        what
    } else {
        paint.colour(Colour::Dim, &what)
    };
    let why = paint.colour(Colour::Dim, &row.detail);
    format!("  day {day:>2}  {}  {word}  {what}  {why}", date(row.at, zone))
}

fn colour(result: Result, kind: Kind) -> Colour {
    match result {
        Result::Done if kind.is_message() || kind == Kind::Task => Colour::Green,
        Result::Done => Colour::Dim,
        Result::Skipped => Colour::Yellow,
        Result::Failed => Colour::Red,
        Result::Waiting => Colour::Blue,
    }
}

fn date(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %e %b %H:%M").to_string()
}

/// How far the run is, and what comes next.
fn ending(run: &Progress, rows: &[Row], zone: Tz, paint: Paint) -> String {
    let end = timestamp(run.end_time)
        .map(|end| format!(" on {}", date(end, zone)))
        .unwrap_or_default();
    let day = format!("day {} of {}", run.current_day, run.duration_days);
    let status = match run.status() {
        ProgressStatus::Completed => format!("completed{end}"),
        ProgressStatus::Stopped => format!("stopped{end}, {day}"),
        ProgressStatus::Paused => format!("paused, {day}"),
        ProgressStatus::Active | ProgressStatus::Unspecified => format!("active, {day}"),
    };
    let next = run
        .next_action
        .as_ref()
        .map(|next| self::next(next, zone))
        .unwrap_or_default();
    let count = |result| rows.iter().filter(|row| row.result == result).count();
    let [done, skipped, failed] = [Result::Done, Result::Skipped, Result::Failed].map(count);
    let bar = bar(run.percent_complete, paint);
    let percent = paint.bold(&format!("{:>3.0} %", run.percent_complete.floor()));
    format!("  {bar} {percent}  {status} · {done} done, {skipped} skipped, {failed} failed{next}\n")
}

fn next(next: &NextAction, zone: Tz) -> String {
    let action = next.action.clone().unwrap_or_default();
    let at = timestamp(next.due_time)
        .map(|due| format!(" on {}", date(due, zone)))
        .unwrap_or_default();
    format!(
        " · next: {} {}{at}",
        Kind::of(action.action_type()).as_str(),
        action.key
    )
}

fn bar(percent: f64, paint: Paint) -> String {
    let is_filled = |place: &u8| (f64::from(*place) + 0.5) / f64::from(BAR) * 100.0 <= percent;
    let filled = (0..BAR).filter(is_filled).count();
    let (done, open) = ("█".repeat(filled), "░".repeat(usize::from(BAR) - filled));
    paint.colour(Colour::Green, &done) + &paint.colour(Colour::Dim, &open)
}

/// A table of kinds and results.
fn totals<'a>(rows: &(impl Iterator<Item = &'a Row> + Clone), people: usize, paint: Paint) -> String {
    let title = paint.bold(&format!("Totals over {people} customers"));
    let mut text = format!(
        "{title}\n  {:<6}{:>8}{:>9}{:>8}{:>9}\n",
        "", "done", "skipped", "failed", "waiting"
    );
    for kind in Kind::ALL {
        let count = |result| {
            rows.clone()
                .filter(|row| row.kind == kind && row.result == result)
                .count()
        };
        let [done, skipped, failed, waiting] = Result::ALL.map(count);
        let cells = format!("{done:>8}{skipped:>9}{failed:>8}{waiting:>9}").replace(" 0", " -");
        let _ = writeln!(text, "  {:<6}{cells}", kind.as_str());
    }
    text
}

#[cfg(test)]
mod tests;
