//! What people answer to a text message to get no more of them, or to get them again.

/// A word that counts as somebody's will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyword {
    /// No more.
    Stop,
    /// Again, after a stop.
    Start,
}

/// As carriers in North America and Twilio have them ("Advanced Opt-Out"), and by law in several countries.
const STOP: [&str; 8] = [
    "STOP",
    "STOPALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "REVOKE",
    "OPTOUT",
];

const START: [&str; 3] = ["START", "UNSTOP", "YES"];

impl Keyword {
    /// Reads an answer. The word is all that there is to it, in whatever case, but for spaces and punctuation: "Stop!" is one, and
    /// "I can't stop laughing" is none.
    pub fn parse(answer: &str) -> Option<Self> {
        let word: String = answer.chars().filter(|c| c.is_alphanumeric()).collect();
        let word = word.to_uppercase();
        if STOP.contains(&word.as_str()) {
            Some(Self::Stop)
        } else if START.contains(&word.as_str()) {
            Some(Self::Start)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_whole() {
        for stop in [
            "STOP",
            " stop ",
            "Stop!",
            "\"stop\".",
            "STOP ALL",
            "Opt-out",
            "unsubscribe\r\n",
            "sToP",
        ] {
            assert_eq!(Keyword::parse(stop), Some(Keyword::Stop), "{stop}");
        }
        for start in ["start", "YES", "Unstop.", " yes!"] {
            assert_eq!(Keyword::parse(start), Some(Keyword::Start), "{start}");
        }
        for none in [
            "",
            " ",
            "?",
            "I can't stop laughing",
            "stopped",
            "don't stop",
            "no",
            "yes please",
            "ЅTOP",
        ] {
            assert_eq!(Keyword::parse(none), None, "{none}");
        }
    }
}
