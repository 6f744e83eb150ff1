//! What the headers of a gRPC request say (gRPC over HTTP/2, "Requests").

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use std::time::Duration;

/// How the content types of gRPC begin, also those of gRPC-Web.
const GRPC: &str = "application/grpc";

/// How much earlier than the caller somebody gives up who wants to say so.
const EARLIER: Duration = Duration::from_millis(10);

/// Whether a request is gRPC's, by its content type.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let begin = kind.and_then(|kind| kind.get(..GRPC.len()));
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(GRPC))
}

/// How long the caller waits, if he says so.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout)
}

/// When to give up on a call of a caller who waits for so long, so that he hears of it.
pub fn soon_enough(asked: Duration) -> Duration {
    asked.saturating_sub(EARLIER).max(asked / 2)
}

/// Parses `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_parsed() {
        let cases = [
            ("5S", Some(5000)),
            ("100m", Some(100)),
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("1000u", Some(1)),
            ("99999999n", Some(99)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse_timeout(text).map(|duration| duration.as_millis()),
                expected,
                "{text}"
            );
        }
        for bad in ["", "S", "5", "5X", "-5S", "123456789S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn content_types_of_grpc_are_known_in_any_case() {
        let is = |kind: &str| {
            let value = kind.parse().expect("a header");
            is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
        };
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC",
            "application/grpc-web-text",
        ] {
            assert!(is(good), "{good}");
        }
        for bad in ["", "application/grp", "text/plain", "application/json"] {
            assert!(!is(bad), "{bad}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
