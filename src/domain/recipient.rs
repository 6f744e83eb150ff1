//! Which phone numbers are written to or called at all.

use super::{Invalid, PhoneNumber};

/// The fewest digits of a number that is not an emergency number with a country code before it: the shortest real ones are those of
/// small islands, such as +683 4000.
const FEWEST_DIGITS: usize = 7;

/// Why nobody is written to or called under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberRefusal {
    /// It is a short number, such as those of the police.
    #[error("the number is too short for a subscriber's; emergency and other short numbers are refused")]
    Short,
    /// Calls to it cost more than to others.
    #[error("the number is a premium rate number")]
    Premium,
}

impl PhoneNumber {
    /// Checks and takes the number of somebody who is to be written to or called: E.164, not an emergency number, not one with a
    /// premium rate. Numbers that nobody has heard of are taken, as plans of numbers change more often than this service.
    pub fn parse_recipient(given: &str) -> Result<Self, Invalid> {
        let number = Self::parse(given)?;
        match number.refusal() {
            None => Ok(number),
            Some(NumberRefusal::Short) => Err(Invalid::new(
                given,
                "a subscriber's number of at least 7 digits; emergency and other short numbers are refused",
            )),
            Some(NumberRefusal::Premium) => Err(Invalid::new(given, "a number without a premium rate")),
        }
    }

    /// Why nobody is written to or called under this number; none: they are.
    pub fn refusal(&self) -> Option<NumberRefusal> {
        // The plus sign is no digit.
        if self.as_str().len() - 1 < FEWEST_DIGITS {
            return Some(NumberRefusal::Short);
        }
        let known = phonenumber::parse(None, self.as_str()).ok()?;
        let is_premium = known.number_type(&phonenumber::metadata::DATABASE) == phonenumber::Type::PremiumRate;
        is_premium.then_some(NumberRefusal::Premium)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, expected: Option<NumberRefusal>) {
        let number = PhoneNumber::parse(given).expect(given);
        assert_eq!(number.refusal(), expected, "{given}");
        assert_eq!(
            PhoneNumber::parse_recipient(given).is_ok(),
            expected.is_none(),
            "{given}"
        );
    }

    #[test]
    fn short_and_premium_numbers_are_refused() {
        for emergency in [
            "+1911", "+49110", "+49112", "+44999", "+33112", "+358112", "+86110", "+852999", "+112",
        ] {
            check(emergency, Some(NumberRefusal::Short));
        }
        for premium in [
            "+19005550123",
            "+611900123456",
            "+449098790123",
            "+4990055501234",
            "+33899123456",
        ] {
            check(premium, Some(NumberRefusal::Premium));
        }
        for good in [
            "+14155552671",
            "+442079460000",
            "+447400123456",
            "+493012345678",
            "+4915123456789",
            "+33612345678",
            "+919876543210",
            "+6834000",
            "+999123456789",
            "+18005550199",
        ] {
            check(good, None);
        }
    }
}
