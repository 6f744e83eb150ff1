//! Where a trace stands, as W3C Trace Context writes it. Kept with a run and handed on; nothing here looks into it.

/// A `traceparent`, as in `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

impl TraceParent {
    /// Takes one of version 00; none: it is none. Of zeros alone no trace's id is, and no span's.
    pub fn parse(given: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let parts: Vec<&str> = given.split('-').collect();
        let is_one = parts.first() == Some(&"00")
            && parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
            && parts.iter().all(|part| is_hex(part))
            && parts[1..3].iter().all(|id| id.bytes().any(|byte| byte != b'0'));
        is_one.then(|| Self(given.to_owned()))
    }

    /// It as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_one_is_taken() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(TraceParent::parse(good).expect("one").as_str(), good);
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-00"),
            &good.to_uppercase(),
            &good.replacen("00", "01", 1),
            &good.replace('-', "_"),
            &good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &good.replace("b7ad6b7169203331", &"0".repeat(16)),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_what_was_given(given in "\\PC{0,60}|0[0f]-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}(-00)?") {
            if let Some(taken) = TraceParent::parse(&given) {
                proptest::prop_assert_eq!(taken.as_str(), given.as_str());
                proptest::prop_assert_eq!(given.len(), 55);
                proptest::prop_assert!(!given.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }

        #[test]
        fn all_that_are_written_are_taken(trace in 1..=u128::MAX, span in 1..=u64::MAX, flags: u8) {
            let written = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            proptest::prop_assert!(TraceParent::parse(&written).is_some_and(|taken| taken.as_str() == written));
        }
    }
}
