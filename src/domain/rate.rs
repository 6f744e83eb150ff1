//! Rates: how many messages of a channel begin in how much time, whoever sends them.
//!
//! A [`Bucket`] holds the tokens of one second, or one where a rate is slower than that. A message takes one, and they come back
//! one after the other. So in any time `t` at most `rate * t` and a bucketful begin.

use chrono::Duration;
use std::collections::BTreeMap;
use std::fmt;

use super::hold::share_of;
use super::{Channel, EmailAddress, Invalid, ProgressId, Timestamp};

/// What is put off for want of tokens is looked at again after this time at the latest.
const LONGEST_WAIT: Duration = Duration::hours(1);

/// The most messages in the time of a rate.
const MOST: u32 = 1_000_000;

/// How many messages in how much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; from 1.
    count: u32,
    /// In so much time: a second, a minute, an hour or a day.
    per: Duration,
}

impl Rate {
    /// The rate of a text such as `10/s`, `600/m`, `3000/h` or `5000/d`.
    pub fn parse(given: &str) -> Result<Self, Invalid> {
        let parsed = given.split_once('/').and_then(|(count, unit)| {
            let per = match unit {
                "s" => Duration::seconds(1),
                "m" => Duration::minutes(1),
                "h" => Duration::hours(1),
                "d" => Duration::days(1),
                _ => return None,
            };
            let count = count.parse().ok().filter(|count| (1..=MOST).contains(count))?;
            // Finer than a microsecond is no interval.
            let is_slow_enough = i64::from(count) <= per.num_seconds() * 100_000;
            is_slow_enough.then_some(Self { count, per })
        });
        parsed.ok_or_else(|| {
            Invalid::new(
                given,
                "a number and s, m, h or d, such as 10/s or 5000/d, up to 100000/s and 1000000/d",
            )
        })
    }

    /// The time in which a token comes back, in whole microseconds, and rather too long.
    fn interval(self) -> Duration {
        let per = self.per.num_microseconds().unwrap_or(i64::MAX);
        Duration::microseconds((per + i64::from(self.count) - 1) / i64::from(self.count))
    }

    /// How many tokens a full bucket has: those of a second, one at least.
    pub fn burst(self) -> u32 {
        let seconds = u32::try_from(self.per.num_seconds()).unwrap_or(u32::MAX);
        (self.count / seconds).max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.num_seconds() {
            1 => "s",
            60 => "m",
            3600 => "h",
            _ => "d",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// The tokens of one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full again.
    pub full_at: Timestamp,
    /// Up to when tokens to come are spoken for by what was put off.
    pub queued_until: Timestamp,
}

impl Bucket {
    /// A bucket that is full.
    pub fn full(now: Timestamp) -> Self {
        Self {
            full_at: now,
            queued_until: now,
        }
    }

    /// Whether there is a token.
    pub fn has_token(&self, rate: Rate, now: Timestamp) -> bool {
        let interval = rate.interval();
        let full = interval * i32::try_from(rate.burst()).unwrap_or(i32::MAX);
        self.full_at.max(now) + interval <= now + full
    }

    /// Takes a token.
    pub fn take(&mut self, rate: Rate, now: Timestamp) {
        self.full_at = self.full_at.max(now) + rate.interval();
    }

    /// Takes a token, or says after how long there is one.
    pub fn try_take(&mut self, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        let full = rate.interval() * i32::try_from(rate.burst()).unwrap_or(i32::MAX);
        // A clock that was set back must not make anybody wait for when it was.
        self.full_at = self.full_at.min(now + full);
        if self.has_token(rate, now) {
            self.take(rate, now);
            return Ok(());
        }
        Err(self.full_at + rate.interval() - full - now)
    }

    /// When the next that is put off can expect its token.
    pub fn next_place(&self, rate: Rate, now: Timestamp) -> Timestamp {
        let interval = rate.interval();
        let full = interval * i32::try_from(rate.burst()).unwrap_or(i32::MAX);
        self.queued_until.max(self.full_at - full).max(now) + interval
    }

    /// Until when an action of a run is put off: until its token is expected. What is an hour behind is looked at again before that,
    /// at a time of its own.
    pub fn until_for(&self, run: ProgressId, rate: Rate, now: Timestamp) -> Timestamp {
        let place = self.next_place(rate, now);
        if place <= now + LONGEST_WAIT {
            return place;
        }
        now + LONGEST_WAIT / 2 + share_of(run, LONGEST_WAIT / 2)
    }

    /// Somebody was put off.
    pub fn queue(&mut self, rate: Rate, now: Timestamp) {
        self.queued_until = self.next_place(rate, now).min(now + LONGEST_WAIT);
    }
}

/// The rates that are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// By channel.
    pub channels: BTreeMap<Channel, Rate>,
    /// Of mail to the domain of its recipient, in lower case; `*` is any other.
    pub domains: BTreeMap<String, Rate>,
}

impl RateLimits {
    /// Whether anything is limited.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.domains.is_empty()
    }

    /// The time between two tokens of the slowest rate.
    pub fn longest_interval(&self) -> Duration {
        let rates = self.channels.values().chain(self.domains.values());
        rates.map(|rate| rate.interval()).max().unwrap_or_default()
    }

    /// What a message takes tokens of: their keys and rates. A domain is no personal data, so it may be stored.
    pub fn of(&self, channel: Channel, email: Option<&EmailAddress>) -> Vec<(String, Rate)> {
        let of_channel = self.channels.get(&channel);
        let mut limits: Vec<(String, Rate)> = of_channel
            .map(|rate| (channel.as_str().to_owned(), *rate))
            .into_iter()
            .collect();
        if let Some(email) = email.filter(|_| channel == Channel::Email) {
            let domain = email.domain();
            let rate = self.domains.get(&domain).or_else(|| self.domains.get("*"));
            limits.extend(rate.map(|rate| (format!("email@{domain}"), *rate)));
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        Rate::parse(text).expect("a rate")
    }

    fn start() -> Timestamp {
        "2026-03-02T12:00:00Z".parse().expect("an instant")
    }

    #[test]
    fn rates_are_read() {
        for (text, burst, microseconds) in [
            ("10/s", 10, 100_000),
            ("600/m", 10, 100_000),
            ("7/s", 7, 142_858),
            ("90/m", 1, 666_667),
            ("3600/h", 1, 1_000_000),
            ("5000/d", 1, 17_280_000),
            ("1/d", 1, 86_400_000_000),
            ("100000/s", 100_000, 10),
        ] {
            let rate = rate(text);
            assert_eq!(
                (rate.burst(), rate.interval().num_microseconds()),
                (burst, Some(microseconds)),
                "{text}"
            );
            assert_eq!(rate.to_string(), text);
        }
        for bad in [
            "",
            "10",
            "0/s",
            "-1/s",
            "1/x",
            "1.5/s",
            "100001/s",
            "1000001/d",
            "10/ s",
            "/s",
        ] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }

    /// However it is asked, no window has more than its share and a bucketful; and who asks all the time gets his share.
    #[test]
    fn no_window_has_more_than_its_share() {
        for (text, step) in [("10/s", 30), ("7/s", 11), ("90/m", 100), ("5000/d", 5000)] {
            let (rate, mut bucket) = (rate(text), Bucket::full(start()));
            let mut taken: Vec<Timestamp> = Vec::new();
            for n in 0..2000 {
                let now = start() + Duration::milliseconds(n * step);
                while bucket.has_token(rate, now) {
                    bucket.take(rate, now);
                    taken.push(now);
                }
            }
            let interval = rate.interval().num_microseconds().expect("microseconds");
            for (first, begin) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let window = (*end - *begin).num_microseconds().expect("microseconds");
                    let most = i64::from(rate.burst()) + window / interval;
                    assert!(
                        i64::try_from(last - first + 1).expect("few") <= most,
                        "{text}: {begin} to {end}"
                    );
                }
            }
            // Where a bucket has one token only, each waits until it is asked for.
            let asked_every = step * 1000;
            let all = 2000 * asked_every / (interval.div_euclid(asked_every) + 1) / asked_every;
            assert!(
                i64::try_from(taken.len()).expect("few") >= all,
                "{text}: {}",
                taken.len()
            );
        }
    }

    #[test]
    fn who_finds_no_token_learns_when_there_is_one() {
        let (rate, now) = (rate("4/s"), start());
        let mut bucket = Bucket::full(now);
        for _ in 0..4 {
            assert_eq!(bucket.try_take(rate, now), Ok(()));
        }
        assert_eq!(bucket.try_take(rate, now), Err(Duration::milliseconds(250)));
        let soon = now + Duration::milliseconds(100);
        assert_eq!(bucket.try_take(rate, soon), Err(Duration::milliseconds(150)));
        assert_eq!(bucket.try_take(rate, now + Duration::milliseconds(250)), Ok(()));
        assert!(bucket.try_take(rate, now + Duration::milliseconds(250)).is_err());
        // The clock is set back by an hour.
        let earlier = now - Duration::hours(1);
        assert_eq!(bucket.try_take(rate, earlier), Err(Duration::milliseconds(250)));
    }

    #[test]
    fn who_is_put_off_gets_a_token_in_his_place() {
        let (rate, now) = (rate("10/s"), start());
        let mut bucket = Bucket::full(now);
        while bucket.has_token(rate, now) {
            bucket.take(rate, now);
        }
        let mut places = Vec::new();
        for run in 1..=25 {
            places.push(bucket.until_for(ProgressId(run), rate, now));
            bucket.queue(rate, now);
        }
        let first = places[0] - now;
        assert_eq!(
            (first, places[24] - now),
            (Duration::milliseconds(100), Duration::milliseconds(2500))
        );
        for place in places {
            assert!(bucket.has_token(rate, place));
            bucket.take(rate, place);
        }
    }

    #[test]
    fn nobody_waits_for_longer_than_an_hour_without_being_looked_at() {
        let (rate, now) = (rate("24/d"), start());
        let mut bucket = Bucket::full(now);
        bucket.take(rate, now);
        for run in 1..=100 {
            let until = bucket.until_for(ProgressId(run), rate, now);
            assert!(
                (now + Duration::minutes(30)..=now + Duration::hours(1)).contains(&until),
                "{until}"
            );
            bucket.queue(rate, now);
        }
    }

    #[test]
    fn a_mail_takes_of_its_channel_and_its_domain() {
        let limits = RateLimits {
            channels: [(Channel::Email, rate("10/s"))].into(),
            domains: [("example.com".to_owned(), rate("5/s")), ("*".to_owned(), rate("20/s"))].into(),
        };
        let keys = |channel, address: &str| {
            let address = EmailAddress::parse(address).expect("an address");
            let of = limits.of(channel, Some(&address));
            of.into_iter()
                .map(|(key, rate)| format!("{key} {}", rate.count))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            keys(Channel::Email, "a@Example.COM"),
            ["email 10", "email@example.com 5"]
        );
        assert_eq!(
            keys(Channel::Email, "a@b.example.com"),
            ["email 10", "email@b.example.com 20"]
        );
        assert!(keys(Channel::Sms, "a@example.com").is_empty());
    }
}
