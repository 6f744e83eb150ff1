//! The keys of an issuer (JWKS, RFC 7517), each for the algorithms that it is for.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::fmt;

/// How many keys are taken at most.
const MOST_KEYS: usize = 100;

/// Algorithms that keys of RSA may be for.
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    material: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// Why there are no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is none.
    #[error("it is no JWKS, which in JSON begins as {{\"keys\": [")]
    Syntax,
    /// It is none of any use.
    #[error("it has no key that can be used: RSA from 2048 bits, P-256, P-384 or Ed25519, for signatures")]
    NoKey,
    /// There are too many.
    #[error("it has more than {MOST_KEYS} keys")]
    TooMany,
}

impl KeySet {
    /// Reads a JWKS. Keys that are of no use here, of other kinds or for encryption, are left out.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let document: Value = serde_json::from_slice(json).map_err(|_| KeySetError::Syntax)?;
        let keys = document
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(KeySetError::Syntax)?;
        if keys.len() > MOST_KEYS {
            return Err(KeySetError::TooMany);
        }
        let usable: Vec<Key> = keys.iter().filter_map(Key::parse).collect();
        if usable.is_empty() {
            return Err(KeySetError::NoKey);
        }
        Ok(Self(usable))
    }

    /// The key of a token: the one of this id, or the only one there is for the algorithm where the token names none.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let is_it = |key: &&Key| {
            let is_of_id = id.is_none() || key.id.as_deref() == id;
            is_of_id && key.algorithms.contains(&algorithm)
        };
        let mut found = self.0.iter().filter(is_it);
        match (found.next(), found.next()) {
            (Some(key), None) => Some(&key.material),
            (None | Some(_), _) => None,
        }
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let common = &jwk.common;
        let is_to_verify = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        let is_to_sign = |its: &PublicKeyUse| *its == PublicKeyUse::Signature;
        if !common.public_key_use.as_ref().is_none_or(is_to_sign)
            || !common.key_operations.as_ref().is_none_or(is_to_verify)
        {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA.to_vec(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                EllipticCurve::P521 | EllipticCurve::Ed25519 | _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            AlgorithmParameters::OctetKeyPair(_)
            | AlgorithmParameters::OctetKey(_)
            | AlgorithmParameters::Other(_)
            | _ => {
                return None;
            }
        };
        if let Some(only) = common.key_algorithm {
            let only = Algorithm::try_from(only).ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        let material = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self {
            id: common.key_id.clone(),
            algorithms,
            material,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(keys: &Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
    }

    fn with(key: &Value, more: &Value) -> Value {
        let mut key = key.clone();
        for (name, value) in more.as_object().expect("fields") {
            key[name] = value.clone();
        }
        key
    }

    #[test]
    fn a_key_is_for_what_it_says() {
        let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
        let ec = json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"});
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "AQ"});
        let all = [
            Algorithm::RS256,
            Algorithm::PS256,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
            Algorithm::HS256,
        ];
        let check = |key: &Value, expected: &[Algorithm]| {
            let found: Vec<Algorithm> = match set(&json!([key])) {
                Ok(set) => all
                    .into_iter()
                    .filter(|algorithm| set.find(None, *algorithm).is_some())
                    .collect(),
                Err(error) => {
                    assert_eq!(error, KeySetError::NoKey);
                    Vec::new()
                }
            };
            assert_eq!(found, expected, "{key}");
        };
        check(&rsa, &[Algorithm::RS256, Algorithm::PS256]);
        check(
            &with(&rsa, &json!({"alg": "PS256", "use": "sig", "key_ops": ["verify"]})),
            &[Algorithm::PS256],
        );
        check(&ec, &[Algorithm::ES256]);
        check(&with(&ec, &json!({"crv": "P-384"})), &[Algorithm::ES384]);
        check(&ed, &[Algorithm::EdDSA]);
        for useless in [
            with(&rsa, &json!({"use": "enc"})),
            with(&rsa, &json!({"key_ops": ["encrypt"]})),
            with(&rsa, &json!({"alg": "ES256"})),
            with(&rsa, &json!({"alg": "HS256"})),
            with(&rsa, &json!({"alg": "RSA-OAEP"})),
            with(&rsa, &json!({"n": "*"})),
            with(&ec, &json!({"crv": "P-521"})),
            with(&ec, &json!({"crv": "secp256k1"})),
            with(&ed, &json!({"crv": "Ed448"})),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
            json!({"kty": "new"}),
            json!(7),
        ] {
            check(&useless, &[]);
        }
    }

    #[test]
    fn one_key_is_found_or_none() {
        let key = |id: &str| json!({"kty": "OKP", "crv": "Ed25519", "x": "AQ", "kid": id});
        let two = set(&json!([key("a"), key("b"), {"kty": "oct", "k": "AQ"}])).expect("keys");
        assert!(two.find(Some("a"), Algorithm::EdDSA).is_some());
        assert!(two.find(Some("c"), Algorithm::EdDSA).is_none());
        assert!(two.find(Some("a"), Algorithm::RS256).is_none());
        assert!(two.find(None, Algorithm::EdDSA).is_none(), "which of two?");
        let same = set(&json!([key("a"), key("a")])).expect("keys");
        assert!(same.find(Some("a"), Algorithm::EdDSA).is_none(), "which of two?");
        let many = vec![key("a"); MOST_KEYS + 1];
        assert_eq!(set(&many.into()).expect_err("many"), KeySetError::TooMany);
        for wrong in ["", "x", "[]", "{}", "{\"keys\": 7}"] {
            assert_eq!(KeySet::parse(wrong.as_bytes()).expect_err(wrong), KeySetError::Syntax);
        }
        assert!(!format!("{two:?}").contains("AQ"));
    }
}
