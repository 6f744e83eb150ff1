//! Where a trace stands, as W3C Trace Context writes it. Kept with a run and handed on; nothing here looks into it.

/// A `traceparent`, as in `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

impl TraceParent {
    /// Takes one of version 00; none: it is none.
    pub fn parse(given: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let parts: Vec<&str> = given.split('-').collect();
        let is_one = parts.first() == Some(&"00")
            && parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
            && parts.iter().all(|part| is_hex(part));
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
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }
}
