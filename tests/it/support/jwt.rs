//! An issuer of JWTs, honest or not: keys of every kind, and tokens that say whatever they are told to.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

/// A key of 2048 bits, which nobody trusts but these tests. Making one takes too long.
const RSA: &[u8] = include_bytes!("jwt/rsa.der");

/// Whose tokens are taken.
pub(crate) const ISSUER: &str = "https://id.example.com/";
/// For whom they are.
pub(crate) const AUDIENCE: &str = "campaigns";

/// A key with its id.
pub(crate) struct Signer {
    id: String,
    pair: Pair,
}

enum Pair {
    Ed(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    pub(crate) fn ed(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        Self::new(id, Pair::Ed(pair))
    }

    pub(crate) fn p256(id: &str) -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("a key");
        Self::new(id, Pair::P256(pair))
    }

    pub(crate) fn p384(id: &str) -> Self {
        let (kind, random) = (&ECDSA_P384_SHA384_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("a key");
        Self::new(id, Pair::P384(pair))
    }

    pub(crate) fn rsa(id: &str) -> Self {
        Self::new(id, Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(RSA).expect("a key"))))
    }

    fn new(id: &str, pair: Pair) -> Self {
        Self {
            id: id.to_owned(),
            pair,
        }
    }

    /// Its public half, for a JWKS.
    pub(crate) fn jwk(&self) -> Value {
        let curve = |name: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            json!({"kty": "EC", "crv": name, "kid": self.id, "x": base64(x), "y": base64(y)})
        };
        match &self.pair {
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": base64(pair.public_key().as_ref())})
            }
            Pair::P256(pair) => curve("P-256", pair.public_key().as_ref()),
            Pair::P384(pair) => curve("P-384", pair.public_key().as_ref()),
            Pair::Rsa(pair) => {
                let parts: RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
                let (n, e) = (parts.n, parts.e);
                json!({"kty": "RSA", "use": "sig", "kid": self.id, "n": base64(&n), "e": base64(&e)})
            }
        }
    }

    /// The algorithm that its tokens have.
    pub(crate) fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Ed(_) => "EdDSA",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// A signature of its own algorithm, or for RSA of the one that is said.
    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::P256(pair) | Pair::P384(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let encoding: &dyn RsaEncoding = if algorithm == "PS256" {
                    &RSA_PSS_SHA256
                } else {
                    &RSA_PKCS1_SHA256
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).expect("signed");
                signature
            }
        }
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"}), claims)
    }

    /// A token with this head.
    pub(crate) fn token_with(&self, head: &Value, claims: &Value) -> String {
        let algorithm = head["alg"].as_str().unwrap_or_default().to_owned();
        self.token_of(&head.to_string(), &claims.to_string(), &algorithm)
    }

    /// A token whose head and claims are this text.
    pub(crate) fn token_of(&self, head: &str, claims: &str, algorithm: &str) -> String {
        let message = format!("{}.{}", base64(head.as_bytes()), base64(claims.as_bytes()));
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", base64(&signature))
    }
}

/// A JWKS of these keys.
pub(crate) fn jwks(keys: &[&Signer]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// Claims that are good for an hour from this instant.
pub(crate) fn claims(subject: &str, roles: &[&str], now: &str) -> Value {
    let now = super::given::at(now).timestamp();
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "roles": roles, "iat": now, "nbf": now, "exp": now + 3600})
}

/// As tokens have it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
