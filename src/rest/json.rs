//! JSON text as it is written: with all members of objects, also those that come twice, which other readers drop silently.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

use super::violations::shown;

/// The most values of a text. Each takes many times as much memory as it has letters.
const MOST_VALUES: usize = 200_000;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    /// Its members in order.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a text, or says what is wrong with it and where. What is nested more than 127 deep is refused, and what has more than
    /// 200,000 values.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let left = Cell::new(MOST_VALUES);
        let mut json = serde_json::Deserializer::from_slice(text);
        let parsed = Reader { left: &left }.deserialize(&mut json);
        let parsed = parsed.and_then(|value| json.end().map(|()| value));
        parsed.map_err(|error| error.to_string())
    }

    /// The same as others take it. An object that has a member twice is an error, which is its name.
    pub(super) fn to_value(&self) -> Result<serde_json::Value, String> {
        Ok(match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Integer(value) => serde_json::Number::from_i128(*value).map_or(serde_json::Value::Null, Into::into),
            Self::Float(value) => (*value).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(values) => values.iter().map(Self::to_value).collect::<Result<_, _>>()?,
            Self::Object(members) => {
                let mut object = serde_json::Map::new();
                for (name, value) in members {
                    if object.insert(name.clone(), value.to_value()?).is_some() {
                        return Err(name.clone());
                    }
                }
                object.into()
            }
        })
    }

    /// As it is shown in an error.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => shown(text),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

/// Reads a value, and all within it, as long as there are values left.
#[derive(Clone, Copy)]
struct Reader<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let left = self.left.get().checked_sub(1);
        let left = left.ok_or_else(|| D::Error::custom(format!("it has more than {MOST_VALUES} values")))?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = object.next_key()? {
            members.push((name, object.next_value_seed(self)?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_not_too_many_values() {
        let list = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert!(Json::parse(list(MOST_VALUES - 1).as_bytes()).is_ok());
        let error = Json::parse(list(MOST_VALUES).as_bytes()).expect_err("one more");
        assert!(error.starts_with("it has more than 200000 values"), "{error}");
        assert!(Json::parse(b"[] []").is_err(), "one value alone");
    }

    #[test]
    fn all_members_are_kept() {
        let json = Json::parse(br#"{"a": 1, "b": [null, true, 1.5, "x"], "a": -2}"#).expect("JSON");
        let list = vec![
            Json::Null,
            Json::Bool(true),
            Json::Float(1.5),
            Json::Text("x".to_owned()),
        ];
        let members = [
            ("a", Json::Integer(1)),
            ("b", Json::List(list)),
            ("a", Json::Integer(-2)),
        ];
        let members = members.map(|(name, value)| (name.to_owned(), value)).to_vec();
        assert_eq!(json, Json::Object(members));
        assert_eq!(json.to_value(), Err("a".to_owned()));
    }

    #[test]
    fn what_is_no_json_says_where() {
        for (text, what) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\"a\": 1,}", "trailing comma at line 1 column 9"),
            ("{} {}", "trailing characters at line 1 column 4"),
            ("1e999", "number out of range at line 1 column 5"),
            ("NaN", "expected value at line 1 column 1"),
            ("\"\\ud800\"", "unexpected end of hex escape at line 1 column 8"),
        ] {
            assert_eq!(Json::parse(text.as_bytes()), Err(what.to_owned()), "{text}");
        }
        let deep = "[".repeat(200);
        let error = Json::parse(deep.as_bytes()).expect_err("deep");
        assert!(error.starts_with("recursion limit exceeded"), "{error}");
        assert!(Json::parse(b"\"\xff\"").is_err());
    }
}
