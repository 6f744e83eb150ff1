//! What comes back about a message: what it is called among a customer's events, and whom nothing is sent to after it.

use chrono::Duration;

use super::{Channel, EngagementKind, SuppressionReason, SuppressionScope, Timestamp};

/// How many soft bounces stop all messages to an address.
const MOST_SOFT_BOUNCES: usize = 3;

/// Within how many days.
const SOFT_BOUNCE_DAYS: i64 = 7;

/// Within which time soft bounces are counted together.
pub fn soft_bounce_window() -> Duration {
    Duration::days(SOFT_BOUNCE_DAYS)
}

/// Whether an address bounced softly too often: three times within seven days, both ends included.
pub fn bounced_too_often(mut times: Vec<Timestamp>) -> bool {
    times.sort_unstable();
    times
        .windows(MOST_SOFT_BOUNCES)
        .any(|some| some[some.len() - 1] - some[0] <= soft_bounce_window())
}

/// What became of a message after the provider had taken it over, or what its recipient did with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeedbackKind {
    /// It arrived.
    Delivered,
    /// There is no such address.
    HardBounce,
    /// It did not arrive, for a reason that may pass, such as a full mailbox.
    SoftBounce,
    /// It was refused by policy or for the sender's reputation, which says nothing about the recipient.
    Blocked,
    /// It was refused for another reason.
    Rejected,
    /// The recipient called it spam.
    Complaint,
    /// The recipient wants no more advertising.
    Unsubscribed,
    /// The recipient opened it.
    Opened,
    /// The recipient followed a link in it.
    Clicked,
    /// The recipient answered.
    Replied,
}

impl FeedbackKind {
    /// The event that it is for conditions.
    pub fn engagement(self, channel: Channel) -> EngagementKind {
        let custom = |what: &str| EngagementKind::Custom(format!("{}.{what}", channel.as_str()));
        match (self, channel) {
            (Self::Opened, Channel::Email) => EngagementKind::EmailOpened,
            (Self::Clicked, Channel::Email) => EngagementKind::EmailClicked,
            (Self::Replied, _) => EngagementKind::Replied,
            (Self::Delivered, _) => custom("delivered"),
            (Self::HardBounce, _) => custom("bounced"),
            (Self::SoftBounce, _) => custom("soft_bounced"),
            (Self::Blocked, _) => custom("blocked"),
            (Self::Rejected, _) => custom("rejected"),
            (Self::Complaint, _) => custom("complained"),
            (Self::Unsubscribed, _) => custom("unsubscribed"),
            (Self::Opened, _) => custom("opened"),
            (Self::Clicked, _) => custom("clicked"),
        }
    }

    /// What is stopped on the address, if anything is at once. Soft bounces stop all when there are too many.
    pub fn suppression(self, channel: Channel) -> Option<(SuppressionScope, SuppressionReason)> {
        match self {
            Self::HardBounce => Some((SuppressionScope::All, SuppressionReason::of_refusal(channel))),
            Self::Complaint => Some((SuppressionScope::Marketing, SuppressionReason::Complaint)),
            Self::Unsubscribed => Some((SuppressionScope::Marketing, SuppressionReason::Unsubscribed)),
            Self::Delivered
            | Self::SoftBounce
            | Self::Blocked
            | Self::Rejected
            | Self::Opened
            | Self::Clicked
            | Self::Replied => None,
        }
    }
}

/// An enhanced status code of a mail server, such as `5.1.1` (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailStatus {
    /// 2: it worked; 4: not now; 5: never.
    pub class: u16,
    /// What it is about, such as 1 for the address.
    pub subject: u16,
    /// What is wrong with it.
    pub detail: u16,
}

/// What a mail server means by refusing a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailRefusal {
    /// There is no such mailbox.
    NoSuchMailbox,
    /// It is their system's or their network's trouble, or the mailbox is full: it may pass.
    Trouble,
    /// Policy, authentication or reputation: it says nothing about the recipient.
    Policy,
    /// Something else, such as the message's size.
    Other,
}

impl MailStatus {
    /// The code that a text is, or the first that it has in it, as in `550-5.1.1 no such user`.
    pub fn find(text: &str) -> Option<Self> {
        let mut words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        words.find_map(|word| Self::parse(word.trim_matches('.')))
    }

    /// The code that a word is.
    pub fn parse(word: &str) -> Option<Self> {
        let number = |digits: &str| {
            let is_short = (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_short.then(|| digits.parse().ok()).flatten()
        };
        let mut numbers = word.split('.');
        let (class, subject, detail) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let class = number(class).filter(|class| matches!(class, 2 | 4 | 5))?;
        if numbers.next().is_some() {
            return None;
        }
        Some(Self {
            class,
            subject: number(subject)?,
            detail: number(detail)?,
        })
    }

    /// Whether it says no more than the class.
    pub fn is_general(self) -> bool {
        (self.subject, self.detail) == (0, 0)
    }

    /// What a server means that refuses with it.
    pub fn refusal(self) -> MailRefusal {
        if self.class == 4 {
            return MailRefusal::Trouble;
        }
        match (self.subject, self.detail) {
            (1, 1 | 6 | 10) => MailRefusal::NoSuchMailbox,
            (2, 2) | (4, _) => MailRefusal::Trouble,
            // But for x.3.4: the message is too big, and stays so.
            (3, detail) if detail != 4 => MailRefusal::Trouble,
            (7, _) => MailRefusal::Policy,
            (_, _) => MailRefusal::Other,
        }
    }
}

impl From<MailRefusal> for FeedbackKind {
    fn from(refusal: MailRefusal) -> Self {
        match refusal {
            MailRefusal::NoSuchMailbox => Self::HardBounce,
            MailRefusal::Trouble => Self::SoftBounce,
            MailRefusal::Policy => Self::Blocked,
            MailRefusal::Other => Self::Rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_what_servers_say() {
        for (text, expected) in [
            ("5.1.1", Some((5, 1, 1))),
            ("No such user: 5.1.1.", Some((5, 1, 1))),
            (" 5.1.10 (bad mailbox)", Some((5, 1, 10))),
            ("smtp; 550-5.1.1 The email account", Some((5, 1, 1))),
            ("smtp;550 5.7.26 [192.0.2.1] blocked 4.2.1", Some((5, 7, 26))),
            ("550 from 192.0.2.25: no", None),
            ("host 5.1.1.1 said", None),
            ("smtp; 550 No such user", None),
            ("9.1.1", None),
            ("5.1", None),
            ("5..1", None),
            ("5.1111.1", None),
            ("", None),
        ] {
            let found = MailStatus::find(text).map(|status| (status.class, status.subject, status.detail));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn codes_mean_what_the_table_says() {
        for (codes, expected) in [
            (&["5.1.1", "5.1.6", "5.1.10"][..], FeedbackKind::HardBounce),
            (
                &[
                    "4.0.0", "4.1.1", "4.2.2", "4.4.7", "4.7.1", "5.2.2", "5.3.0", "5.3.2", "5.4.4",
                ],
                FeedbackKind::SoftBounce,
            ),
            (&["5.7.0", "5.7.1", "5.7.26", "5.7.509"], FeedbackKind::Blocked),
            (
                &["5.0.0", "5.1.2", "5.1.8", "5.2.1", "5.3.4", "5.5.2", "5.6.0"],
                FeedbackKind::Rejected,
            ),
        ] {
            for code in codes {
                let status = MailStatus::parse(code).expect(code);
                assert_eq!(FeedbackKind::from(status.refusal()), expected, "{code}");
            }
        }
    }

    #[test]
    fn three_soft_bounces_in_seven_days_are_too_many() {
        let hours = |all: &[i64]| -> Vec<Timestamp> {
            let time = |hours: &i64| Timestamp::UNIX_EPOCH + Duration::hours(*hours);
            all.iter().map(time).collect()
        };
        for (times, expected) in [
            (&[][..], false),
            (&[0, 0], false),
            (&[0, 84, 168], true),
            (&[168, 0, 84], true),
            (&[0, 84, 169], false),
            (&[0, 100, 200, 267], true),
            (&[0, 169, 338, 507], false),
        ] {
            assert_eq!(bounced_too_often(hours(times)), expected, "{times:?}");
        }
    }
}
