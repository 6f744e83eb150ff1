//! The hours at which messages may be sent, by the clock on the customer's wall. All others are quiet.

use chrono::{NaiveTime, Timelike as _};
use chrono_tz::Tz;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::schedule::{next_at_wall, wall};
use super::{Channel, Customer, PhoneNumber, Timestamp};

/// The zones of each calling code, a code with its zones a line. Made from `zone.tab` of tzdata 2025b and the calling codes of the
/// countries there. A country that shares its code with others and can be told apart by the digits after it has a longer one.
const CALLING_CODES: &str = include_str!("calling_codes.txt");

static ZONES_OF_CODES: LazyLock<HashMap<&'static str, Vec<Tz>>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (code, zones) = line.split_once(' ')?;
        Some((
            code,
            zones
                .split(' ')
                .filter_map(|zone| zone.parse::<Tz>().ok())
                .collect::<Vec<Tz>>(),
        ))
    };
    CALLING_CODES.lines().filter_map(line).collect()
});

/// How many minutes a day has on the clock.
const DAY: u16 = 24 * 60;

/// Within how many days hours come that suit all zones where somebody may be, if they ever do.
const SEARCHED_DAYS: i64 = 3;

/// When messages of a channel may be sent, every day, by the clock on the wall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hours {
    /// At any time.
    #[default]
    Always,
    /// From the first minute of the day until before the last; overnight, if that is smaller.
    Daily {
        /// Minutes since midnight, below 1440.
        from: u16,
        /// Minutes since midnight, from 1 to 1440, and another than `from`.
        until: u16,
    },
}

impl Hours {
    /// Whether the clock shows a time at which messages may be sent.
    fn has(self, time: NaiveTime) -> bool {
        let minute = u16::try_from(time.num_seconds_from_midnight() / 60).unwrap_or(DAY);
        match self {
            Self::Always => true,
            Self::Daily { from, until } if from < until => (from..until).contains(&minute),
            Self::Daily { from, until } => minute >= from || minute < until,
        }
    }

    /// Whether messages may be sent to `zone` at `now`.
    pub fn allow(self, zone: Tz, now: Timestamp) -> bool {
        self.has(wall(now, zone).time())
    }

    /// The first instant from `now` on at which messages may be sent to `zone`. It is that at which the clock shows the first
    /// minute, or at which clocks jump over it.
    pub fn open_at(self, zone: Tz, now: Timestamp) -> Timestamp {
        match self {
            Self::Always => now,
            Self::Daily { from, .. } => {
                let first = NaiveTime::from_num_seconds_from_midnight_opt(u32::from(from) * 60, 0);
                next_at_wall(zone, now, first.unwrap_or_default(), |time| self.has(time))
            }
        }
    }
}

impl FromStr for Hours {
    type Err = &'static str;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "must be two times of the day such as 08:00-21:00 or 20:00-02:00, or `always`";
        if given == "always" {
            return Ok(Self::Always);
        }
        let (from, until) = given.split_once('-').ok_or(ALLOWED)?;
        match (minute(from), minute(until)) {
            (Some(0), Some(DAY)) => Ok(Self::Always),
            (Some(from), Some(until)) if from < DAY && from != until => Ok(Self::Daily {
                from,
                until: if until == 0 { DAY } else { until },
            }),
            _ => Err(ALLOWED),
        }
    }
}

/// The minutes since midnight of a time written as `08:00`, up to `24:00`.
fn minute(given: &str) -> Option<u16> {
    let (hours, minutes) = given.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Daily { from, until } => {
                let (from_hour, until_hour) = (from / 60, until / 60);
                write!(f, "{from_hour:02}:{:02}-{until_hour:02}:{:02}", from % 60, until % 60)
            }
        }
    }
}

/// When messages may be sent, by channel. Tasks for people and waits know no hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendingHours {
    /// Mails.
    pub email: Hours,
    /// Text messages.
    pub sms: Hours,
    /// Calls.
    pub phone: Hours,
}

impl SendingHours {
    fn of(&self, channel: Channel) -> Hours {
        match channel {
            Channel::Email => self.email,
            Channel::Sms => self.sms,
            Channel::Phone => self.phone,
            Channel::Wait | Channel::Interaction => Hours::Always,
        }
    }
}

/// The zones in which a customer may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The customer's own zone, or the default.
    zone: Tz,
    /// Of a customer that has no zone, those of the number's country. Empty, where nobody can tell.
    country: &'static [Tz],
}

impl Whereabouts {
    /// Those of a customer.
    pub fn of(customer: &Customer, default: Tz) -> Self {
        let number = customer.phone.as_ref().filter(|_| customer.time_zone.is_none());
        Self {
            zone: customer.zone(default).tz,
            country: number.map(zones_of).unwrap_or_default(),
        }
    }

    fn zones(self) -> impl Iterator<Item = Tz> {
        [self.zone].into_iter().chain(self.country.iter().copied())
    }
}

/// The zones of a number's country. Empty, where its code is none of a country.
fn zones_of(number: &PhoneNumber) -> &'static [Tz] {
    let digits = number.as_str().trim_start_matches('+');
    let mut codes = (1..=4).rev().filter_map(|length| digits.get(..length));
    codes
        .find_map(|code| ZONES_OF_CODES.get(code))
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// When a message may go to a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Now.
    Now,
    /// At this instant, and not before.
    At(Timestamp),
    /// Never: there are no hours that suit all zones where the customer may be.
    Never,
}

/// When messages may go to a customer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CustomerHours {
    /// By the clocks there.
    pub hours: SendingHours,
    /// Where the customer may be.
    pub whereabouts: Whereabouts,
}

impl CustomerHours {
    /// Whether a message may go at `now`.
    pub fn allow(&self, channel: Channel, now: Timestamp) -> bool {
        let hours = self.hours.of(channel);
        self.whereabouts.zones().all(|zone| hours.allow(zone, now))
    }

    /// When a message may go, from `now` on.
    pub fn opening(&self, channel: Channel, now: Timestamp) -> Opening {
        let hours = self.hours.of(channel);
        // Where it is quiet in one zone, nothing goes before that zone opens, whatever the others say.
        let mut at = now;
        while let Some(quiet) = self.whereabouts.zones().find(|zone| !hours.allow(*zone, at)) {
            at = hours.open_at(quiet, at);
            if at > now + chrono::Duration::days(SEARCHED_DAYS) {
                return Opening::Never;
            }
        }
        if at == now { Opening::Now } else { Opening::At(at) }
    }
}

#[cfg(test)]
mod tests;
