//! Requests that Twilio makes: whether one is genuine.
//!
//! The header `X-Twilio-Signature` has the base64 of an HMAC-SHA1, with the account's auth token for a key, over the URL as Twilio was
//! given it and all parameters, sorted by name, each name followed by its value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use std::fmt;

use super::url::TwilioUrl;

/// Tells requests of Twilio from those of others.
#[derive(Clone)]
pub struct TwilioRequests(hmac::Key);

impl TwilioRequests {
    /// By the token of an account. None: the account is used by API key, which signs nothing.
    pub fn of(account: &TwilioUrl) -> Option<Self> {
        let (user, token) = account.login();
        (user == account.account).then(|| Self::new(token))
    }

    fn new(token: &str) -> Self {
        Self(hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes()))
    }

    /// Whether Twilio made a request to this URL with these parameters, in any order.
    pub fn is_genuine(&self, url: &str, parameters: &[(String, String)], signature: &str) -> bool {
        let mut sorted: Vec<&(String, String)> = parameters.iter().collect();
        sorted.sort();
        let mut signed = url.to_owned();
        for (name, value) in sorted {
            signed.push_str(name);
            signed.push_str(value);
        }
        let given = STANDARD.decode(signature).unwrap_or_default();
        hmac::verify(&self.0, signed.as_bytes(), &given).is_ok()
    }
}

impl fmt::Debug for TwilioRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TwilioRequests(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Twilio's documentation, "Webhooks security".
    #[test]
    fn the_documented_request_is_genuine_and_no_other() {
        let requests = TwilioRequests::new("12345");
        let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
        let signature = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
        let parameters = [
            ("To", "+18005551212"),
            ("Digits", "1234"),
            ("CallSid", "CA1234567890ABCDE"),
            ("From", "+14158675309"),
            ("Caller", "+14158675309"),
        ];
        let mut parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(requests.is_genuine(url, &parameters, signature));
        assert!(!requests.is_genuine("https://mycompany.com/myapp.php", &parameters, signature));
        assert!(!requests.is_genuine(url, &parameters[1..], signature));
        assert!(!TwilioRequests::new("12346").is_genuine(url, &parameters, signature));
        for bad in ["", "RSOYDt4T1cUTdK1PDd93/VVr8B9=", "RSOYDt4T1cUTdK1PDd93/VVr8B8", "?"] {
            assert!(!requests.is_genuine(url, &parameters, bad), "{bad}");
        }
        parameters[0].1 = "+18005551213".to_owned();
        assert!(!requests.is_genuine(url, &parameters, signature));
    }

    #[test]
    fn only_accounts_that_are_used_by_token_sign() {
        let of = |rest| TwilioRequests::of(&TwilioUrl::parse_rest(rest).expect("valid")).is_some();
        assert!(of("://AC1:token@api.twilio.com"));
        assert!(!of("://SK1:secret@api.twilio.com?account=AC1"));
    }
}
