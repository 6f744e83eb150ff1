//! Into how many parts a text message is split on its way to a phone, each of which is paid for.
//!
//! Letters of the GSM alphabet (3GPP TS 23.038) take 7 bits each, and 160 of them fit into a message that is not split; some
//! signs, such as the euro's, take two places, the first an escape. With any other letter in it the whole text goes as UTF-16
//! (UCS-2), 70 units a message; a letter beyond the basic plane, such as most pictures, takes two. A part of a split message has room
//! for 153 places or 67 units, as it also says which part it is. An escape is not parted from its sign, nor the two halves of a letter.

/// The most parts that a text message may be configured to have.
pub const MOST_SEGMENTS: u8 = 10;

/// The letters that take one place, in the order of their codes, without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// The letters that take two.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmsEncoding {
    /// In the GSM alphabet, 7 bits a place.
    Gsm7,
    /// In UTF-16, 16 bits a unit.
    Ucs2,
}

impl SmsEncoding {
    /// What fits into a message that is not split, in places or units.
    fn whole(self) -> usize {
        match self {
            Self::Gsm7 => 160,
            Self::Ucs2 => 70,
        }
    }

    /// What fits into a part of one that is.
    fn part(self) -> usize {
        match self {
            Self::Gsm7 => 153,
            Self::Ucs2 => 67,
        }
    }

    /// What a letter takes.
    fn width(self, letter: char) -> usize {
        match self {
            Self::Gsm7 if EXTENSION.contains(letter) => 2,
            Self::Gsm7 => 1,
            Self::Ucs2 => letter.len_utf16(),
        }
    }
}

/// How long a text message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmsLength {
    /// How it is written.
    pub encoding: SmsEncoding,
    /// What its letters take, in places or units.
    pub units: usize,
    /// Into how many parts it is split: 1 when it is not, 0 when it is empty.
    pub segments: usize,
}

impl SmsLength {
    /// Measures a text.
    pub fn of(text: &str) -> Self {
        let encoding = if text
            .chars()
            .all(|letter| BASIC.contains(letter) || EXTENSION.contains(letter))
        {
            SmsEncoding::Gsm7
        } else {
            SmsEncoding::Ucs2
        };
        let (mut units, mut parts, mut used) = (0, 1, 0);
        for width in text.chars().map(|letter| encoding.width(letter)) {
            units += width;
            if used + width > encoding.part() {
                parts += 1;
                used = 0;
            }
            used += width;
        }
        let segments = match units {
            0 => 0,
            units if units <= encoding.whole() => 1,
            _ => parts,
        };
        Self {
            encoding,
            units,
            segments,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, encoding: SmsEncoding, units: usize, segments: usize) {
        let expected = SmsLength {
            encoding,
            units,
            segments,
        };
        assert_eq!(SmsLength::of(text), expected, "{text:?}");
    }

    #[test]
    fn the_alphabet_is_whole() {
        assert_eq!(BASIC.chars().count(), 127);
        assert_eq!(EXTENSION.chars().count(), 10);
        for letter in BASIC.chars() {
            check(&letter.to_string(), SmsEncoding::Gsm7, 1, 1);
        }
        for letter in EXTENSION.chars() {
            check(&letter.to_string(), SmsEncoding::Gsm7, 2, 1);
        }
        for letter in "çÀ’“–…`\tабв\u{1b}".chars() {
            check(&letter.to_string(), SmsEncoding::Ucs2, 1, 1);
        }
        check("😀", SmsEncoding::Ucs2, 2, 1);
        check("", SmsEncoding::Gsm7, 0, 0);
    }

    #[test]
    fn lengths_at_the_borders() {
        use SmsEncoding::{Gsm7, Ucs2};
        let a = |count: usize| "a".repeat(count);
        for (length, segments) in [
            (1, 1),
            (160, 1),
            (161, 2),
            (306, 2),
            (307, 3),
            (459, 3),
            (460, 4),
            (1530, 10),
            (1531, 11),
        ] {
            check(&a(length), Gsm7, length, segments);
        }
        for (length, segments) in [
            (1, 1),
            (70, 1),
            (71, 2),
            (134, 2),
            (135, 3),
            (201, 3),
            (202, 4),
            (670, 10),
            (671, 11),
        ] {
            check(&"я".repeat(length), Ucs2, length, segments);
        }
        // One foreign letter makes all of it UTF-16.
        check(&(a(69) + "я"), Ucs2, 70, 1);
        check(&(a(70) + "я"), Ucs2, 71, 2);
        // An escape is not parted from its sign: the 153rd place stays empty.
        check(&(a(158) + "€"), Gsm7, 160, 1);
        check(&(a(159) + "€"), Gsm7, 161, 2);
        check(&(a(152) + "€" + &a(152)), Gsm7, 306, 3);
        check(&(a(151) + "€" + &a(153)), Gsm7, 306, 2);
        check(&"€".repeat(80), Gsm7, 160, 1);
        check(&"€".repeat(81), Gsm7, 162, 2);
        check(&"€".repeat(152), Gsm7, 304, 2);
        check(&"€".repeat(153), Gsm7, 306, 3);
        // Nor the halves of a letter: the 67th unit stays empty.
        check(&"😀".repeat(35), Ucs2, 70, 1);
        check(&("я".to_owned() + &"😀".repeat(35)), Ucs2, 71, 2);
        check(&"😀".repeat(66), Ucs2, 132, 2);
        check(&"😀".repeat(67), Ucs2, 134, 3);
        // Joined pictures are several letters, and may be split between them.
        check("👨‍👩‍👧‍👦", Ucs2, 11, 1);
    }

    /// Splits a text by its codes, as a phone would put it together again: each part in places or units.
    fn split(text: &str, encoding: SmsEncoding) -> Vec<Vec<u16>> {
        let codes = |letter: char| match (encoding, BASIC.chars().position(|basic| basic == letter)) {
            (SmsEncoding::Ucs2, _) => letter.encode_utf16(&mut [0; 2]).to_vec(),
            // Code 0x1b is the escape.
            (SmsEncoding::Gsm7, Some(at)) => vec![u16::try_from(at + usize::from(at >= 0x1b)).expect("small")],
            (SmsEncoding::Gsm7, None) => vec![0x1b, u16::try_from(u32::from(letter)).expect("small")],
        };
        let all: Vec<Vec<u16>> = text.chars().map(codes).collect();
        let whole: Vec<u16> = all.concat();
        if whole.len() <= encoding.whole() {
            return if whole.is_empty() { Vec::new() } else { vec![whole] };
        }
        let mut parts: Vec<Vec<u16>> = Vec::new();
        for code in all {
            match parts.last_mut() {
                Some(part) if part.len() + code.len() <= encoding.part() => part.extend(code),
                Some(_) | None => parts.push(code),
            }
        }
        parts
    }

    proptest! {
        #[test]
        fn splitting_agrees_with_counting(text in "([a-zA-Z0-9 .,€{}\\[\\]äöü]{0,400}|[a-zя€😀]{0,300}|\\PC{0,200})") {
            let length = SmsLength::of(&text);
            let parts = split(&text, length.encoding);
            prop_assert_eq!(parts.len(), length.segments);
            prop_assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), length.units);
            for part in &parts {
                let most = if parts.len() == 1 { length.encoding.whole() } else { length.encoding.part() };
                prop_assert!(part.len() <= most);
                match length.encoding {
                    SmsEncoding::Gsm7 => prop_assert!(part.last() != Some(&0x1b), "an escape at the end"),
                    SmsEncoding::Ucs2 => prop_assert!(String::from_utf16(part).is_ok(), "half a letter"),
                }
            }
        }

        #[test]
        fn more_text_is_never_fewer_segments_of_the_same_encoding(text in "[a-z€]{0,400}", more in "[a-z€]{0,20}") {
            let longer = SmsLength::of(&format!("{text}{more}"));
            prop_assert!(longer.segments >= SmsLength::of(&text).segments);
        }
    }
}
