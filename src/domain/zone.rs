//! Time zones by their canonical IANA ids.

use chrono_tz::Tz;

use super::Invalid;

/// Legacy names of the IANA database and what they stand for now, one pair a line. Made from the `backward` links of
/// tzdata 2026f, and the POSIX-style names, less those that zone.tab lists for a country, such as `Europe/Amsterdam`.
const ALIASES: &str = include_str!("zone_aliases.txt");

/// Takes an IANA id such as `America/New_York` or `Etc/UTC`. Legacy aliases are refused with the id that they stand for, so
/// that one zone has one name wherever it is stored, compared or counted.
pub fn parse_zone(given: &str) -> Result<Tz, Invalid> {
    if let Some(canonical) = alias_of(given) {
        return Err(Invalid::new(
            given,
            format!("a canonical IANA time zone: {canonical} in place of this alias"),
        ));
    }
    given
        .parse()
        .map_err(|_| Invalid::new(given, "an IANA time zone such as America/New_York or Etc/UTC"))
}

/// What a legacy alias stands for.
fn alias_of(given: &str) -> Option<&'static str> {
    ALIASES.lines().find_map(|line| {
        let (alias, canonical) = line.split_once(' ')?;
        (alias == given).then_some(canonical)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_zones_pass_and_aliases_say_what_they_are() {
        for good in [
            "Etc/UTC",
            "Europe/Amsterdam",
            "Asia/Kolkata",
            "America/New_York",
            "Etc/GMT+12",
            "Pacific/Kiritimati",
        ] {
            assert!(parse_zone(good).is_ok(), "{good}");
        }
        for (alias, canonical) in [
            ("UTC", "Etc/UTC"),
            ("US/Eastern", "America/New_York"),
            ("Asia/Calcutta", "Asia/Kolkata"),
        ] {
            let error = parse_zone(alias).expect_err("an alias");
            assert!(error.allowed.contains(canonical), "{alias}: {error}");
        }
        for bad in ["", "Mars/Olympus", "america/new_york", "+02:00", "EST5EDT7"] {
            assert!(parse_zone(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_alias_leads_to_a_canonical_zone() {
        for line in ALIASES.lines() {
            let (_, canonical) = line.split_once(' ').expect("two words");
            assert!(parse_zone(canonical).is_ok(), "{line}");
        }
    }
}
