//! Values of rows that travel as parameters, and what each is to a database.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use sea_orm::Value;
use sea_orm::sea_query::ArrayType;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt::Write as _;

use crate::domain::text::hexadecimal;

/// The type of a column, whose cells may be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Col {
    Text,
    Bool,
    Int,
    BigInt,
    Time,
    Date,
    Json,
    /// Never NULL.
    Bytes,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Cell<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i32),
    BigInt(i64),
    Time(DateTime<Utc>),
    Date(NaiveDate),
    /// An array or an object, as text.
    Json(String),
    Bytes(Vec<u8>),
    Null,
}

/// Stands for no instant in an array: long before any that is stored.
fn no_time() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(1, 1, 1)
        .unwrap_or_default()
        .and_time(chrono::NaiveTime::MIN)
        .and_utc()
}

/// What [`no_time`] is in SQL.
pub(super) const NO_TIME: &str = "'0001-01-01T00:00:00Z'::timestamptz";

/// A column of `PostgreSQL`, all cells in one parameter, which is cast to an array of the second. Most travel as the text of an array,
/// which has NULLs and is made without a copy of each cell. Instants are slow to read as text. Arrays of JSON are slow to make: JSON
/// is text until its row is there.
pub(super) fn postgres_array(cells: Vec<Cell<'_>>, col: Col) -> (Value, &'static str) {
    match col {
        Col::Time => {
            let times = cells.into_iter().map(|cell| {
                let time = if let Cell::Time(time) = cell { time } else { no_time() };
                Value::from(time)
            });
            let times = Value::Array(ArrayType::ChronoDateTimeUtc, Some(Box::new(times.collect())));
            (times, "timestamptz[]")
        }
        Col::Bytes => {
            let bytes = cells.into_iter().map(|cell| postgres_value(cell, col)).collect();
            (Value::Array(ArrayType::Bytes, Some(Box::new(bytes))), "bytea[]")
        }
        Col::Text | Col::Json => (literal(&cells), "text::text[]"),
        Col::Bool => (literal(&cells), "text::boolean[]"),
        Col::Int => (literal(&cells), "text::integer[]"),
        Col::BigInt => (literal(&cells), "text::bigint[]"),
        Col::Date => (literal(&cells), "text::date[]"),
    }
}

/// An array as `PostgreSQL` writes one.
fn literal(cells: &[Cell<'_>]) -> Value {
    let mut array = String::with_capacity(24 * cells.len() + 2);
    for cell in cells {
        array.push(if array.is_empty() { '{' } else { ',' });
        // Nothing fails that is written into memory.
        let _ = match cell {
            Cell::Text(text) => quote(text, &mut array),
            Cell::Json(json) => quote(json, &mut array),
            Cell::Bool(truth) => write!(array, "{truth}"),
            Cell::Int(number) => write!(array, "{number}"),
            Cell::BigInt(number) => write!(array, "{number}"),
            Cell::Date(date) => write!(array, "{date}"),
            Cell::Time(time) => write!(array, "\"{}\"", time.to_rfc3339()),
            Cell::Bytes(bytes) => write!(array, "\"\\\\x{}\"", hexadecimal(bytes)),
            Cell::Null => array.write_str("NULL"),
        };
    }
    array.push_str(if array.is_empty() { "{}" } else { "}" });
    array.into()
}

/// Writes an element in quotes.
fn quote(text: &str, array: &mut String) -> std::fmt::Result {
    array.push('"');
    let mut written = 0;
    for (at, _) in text.match_indices(['"', '\\']) {
        array.push_str(&text[written..at]);
        array.push('\\');
        written = at;
    }
    array.push_str(&text[written..]);
    array.write_char('"')
}

/// The type to which a cell of `PostgreSQL` is cast that is a parameter by itself.
pub(super) fn postgres_type(col: Col) -> &'static str {
    match col {
        Col::Text => "text",
        Col::Bool => "boolean",
        Col::Int => "integer",
        Col::BigInt => "bigint",
        Col::Time => "timestamptz",
        Col::Date => "date",
        Col::Json => "jsonb",
        Col::Bytes => "bytea",
    }
}

/// A cell of `PostgreSQL` that is a parameter by itself.
pub(super) fn postgres_value(cell: Cell<'_>, col: Col) -> Value {
    match cell {
        Cell::Text(text) => text.into_owned().into(),
        Cell::Bool(truth) => truth.into(),
        Cell::Int(number) => number.into(),
        Cell::BigInt(number) => number.into(),
        Cell::Time(time) => time.into(),
        Cell::Date(date) => date.into(),
        // As text it would be parsed for each row.
        Cell::Json(json) => Value::Json(serde_json::from_str(&json).ok()),
        Cell::Bytes(bytes) => bytes.into(),
        Cell::Null => match col {
            Col::Text => Value::String(None),
            Col::Json => Value::Json(None),
            Col::Bool => Value::Bool(None),
            Col::Int => Value::Int(None),
            Col::BigInt => Value::BigInt(None),
            Col::Time => Value::ChronoDateTimeUtc(None),
            Col::Date => Value::ChronoDate(None),
            Col::Bytes => Value::Bytes(None),
        },
    }
}

/// A cell of `SQLite` that is a parameter by itself: what `json_extract` makes of that of a document.
pub(super) fn sqlite_value(cell: Cell<'_>, col: Col) -> Value {
    match cell {
        Cell::Time(time) => sqlite_time(time).into(),
        Cell::Date(date) => date.to_string().into(),
        Cell::Json(json) => json.into(),
        Cell::Null => Value::String(None),
        cell @ (Cell::Text(_) | Cell::Bool(_) | Cell::Int(_) | Cell::BigInt(_) | Cell::Bytes(_)) => {
            postgres_value(cell, col)
        }
    }
}

/// An instant as sqlx writes it into `SQLite`.
fn sqlite_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

/// As a document for `SQLite` has it.
impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Int(number) => serializer.serialize_i32(*number),
            Self::BigInt(number) => serializer.serialize_i64(*number),
            Self::Time(time) => serializer.serialize_str(&sqlite_time(*time)),
            Self::Date(date) => serializer.collect_str(date),
            Self::Json(json) => serializer.serialize_str(json),
            Self::Bytes(bytes) => serializer.serialize_str(&hexadecimal(bytes)),
            Self::Null => serializer.serialize_unit(),
        }
    }
}

impl Cell<'_> {
    /// Something that is an array or an object in JSON.
    pub(in crate::store) fn json(value: &impl Serialize) -> Self {
        Self::Json(serde_json::to_string(value).expect("JSON, as all its keys are text"))
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Cell<'_> {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<i32> for Cell<'_> {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::BigInt(number)
    }
}

impl From<DateTime<Utc>> for Cell<'_> {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(time)
    }
}

impl From<NaiveDate> for Cell<'_> {
    fn from(date: NaiveDate) -> Self {
        Self::Date(date)
    }
}

impl From<Vec<u8>> for Cell<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell<'_> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_written_as_postgresql_reads_it() {
        let day = NaiveDate::from_ymd_opt(2026, 12, 1).expect("a day");
        for (cells, expected) in [
            (vec![], "{}"),
            (vec![Cell::Null], "{NULL}"),
            (vec![Cell::Int(-7), Cell::Null, Cell::Int(8)], "{-7,NULL,8}"),
            (vec![Cell::Bool(true), Cell::Bool(false)], "{true,false}"),
            (vec![day.into()], "{2026-12-01}"),
            (vec!["".into(), "NULL".into(), "a,b}".into()], r#"{"","NULL","a,b}"}"#),
            (
                vec![r"\".into(), r#"a "b" c"#.into(), "ü".into()],
                r#"{"\\","a \"b\" c","ü"}"#,
            ),
            (vec![Cell::json(&["x"])], r#"{"[\"x\"]"}"#),
        ] {
            assert_eq!(literal(&cells), expected.into());
        }
    }
}
