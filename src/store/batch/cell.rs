//! Values of rows that travel as parameters, and what each is to a database.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use sea_orm::Value;
use sea_orm::sea_query::ArrayType;
use std::borrow::Cow;

use crate::domain::text::hexadecimal;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Col {
    Text,
    /// Text that is never empty, or NULL.
    OptText,
    Bool,
    Int,
    BigInt,
    /// A positive number, or NULL.
    OptBigInt,
    Time,
    OptTime,
    Date,
    Json,
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
    /// An array or an object.
    Json(serde_json::Value),
    Bytes(Vec<u8>),
    Null,
}

/// Stands for no instant: long before any that is stored.
fn no_time() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(1, 1, 1)
        .unwrap_or_default()
        .and_time(chrono::NaiveTime::MIN)
        .and_utc()
}

pub(super) fn sql_type(col: Col) -> &'static str {
    match col {
        Col::Text | Col::OptText => "text",
        Col::Bool => "boolean",
        Col::Int => "integer",
        Col::BigInt | Col::OptBigInt => "bigint",
        Col::Time | Col::OptTime => "timestamptz",
        Col::Date => "date",
        Col::Json => "jsonb",
        Col::Bytes => "bytea",
    }
}

/// What stands for NULL in a column, as SQL.
pub(super) fn null_text(col: Col) -> Option<&'static str> {
    match col {
        Col::OptText => Some("''"),
        Col::OptBigInt => Some("-1"),
        Col::OptTime => Some("'0001-01-01T00:00:00Z'::timestamptz"),
        Col::Text | Col::Bool | Col::Int | Col::BigInt | Col::Time | Col::Date | Col::Json | Col::Bytes => None,
    }
}

pub(super) fn array_type(col: Col) -> ArrayType {
    match col {
        Col::Text | Col::OptText => ArrayType::String,
        Col::Bool => ArrayType::Bool,
        Col::Int => ArrayType::Int,
        Col::BigInt | Col::OptBigInt => ArrayType::BigInt,
        Col::Time | Col::OptTime => ArrayType::ChronoDateTimeUtc,
        Col::Date => ArrayType::ChronoDate,
        Col::Json => ArrayType::Json,
        Col::Bytes => ArrayType::Bytes,
    }
}

/// A value of `PostgreSQL`, with what stands there for NULL.
pub(super) fn postgres_value(cell: Cell<'_>, col: Col) -> Value {
    match cell {
        Cell::Text(text) => text.into_owned().into(),
        Cell::Bool(truth) => truth.into(),
        Cell::Int(number) => number.into(),
        Cell::BigInt(number) => number.into(),
        Cell::Time(time) => time.into(),
        Cell::Date(date) => date.into(),
        Cell::Json(json) => json.into(),
        Cell::Bytes(bytes) => bytes.into(),
        Cell::Null => match col {
            Col::OptBigInt | Col::BigInt | Col::Int => (-1_i64).into(),
            Col::OptTime | Col::Time | Col::Date => no_time().into(),
            Col::OptText | Col::Text => "".into(),
            Col::Bool => false.into(),
            Col::Json => serde_json::Value::Null.into(),
            Col::Bytes => Vec::<u8>::new().into(),
        },
    }
}

/// A value of a document for `SQLite`.
pub(super) fn json_value(cell: Cell<'_>) -> serde_json::Value {
    match cell {
        Cell::Text(text) => text.into_owned().into(),
        Cell::Bool(truth) => truth.into(),
        Cell::Int(number) => number.into(),
        Cell::BigInt(number) => number.into(),
        Cell::Time(time) => sqlite_time(time).into(),
        Cell::Date(date) => date.to_string().into(),
        Cell::Json(json) => json,
        Cell::Bytes(bytes) => hexadecimal(&bytes).into(),
        Cell::Null => serde_json::Value::Null,
    }
}

/// A value of `SQLite`: what `json_extract` makes of that of a document.
pub(super) fn sqlite_value(cell: Cell<'_>, col: Col) -> Value {
    match cell {
        Cell::Time(time) => sqlite_time(time).into(),
        Cell::Date(date) => date.to_string().into(),
        Cell::Json(json) => json.to_string().into(),
        Cell::Null => Value::String(None),
        cell @ (Cell::Text(_) | Cell::Bool(_) | Cell::Int(_) | Cell::BigInt(_) | Cell::Bytes(_)) => {
            postgres_value(cell, col)
        }
    }
}

impl Cell<'_> {
    pub(super) fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Text(text) => Cell::Text(text.into_owned().into()),
            Self::Bool(truth) => Cell::Bool(truth),
            Self::Int(number) => Cell::Int(number),
            Self::BigInt(number) => Cell::BigInt(number),
            Self::Time(time) => Cell::Time(time),
            Self::Date(date) => Cell::Date(date),
            Self::Json(json) => Cell::Json(json),
            Self::Bytes(bytes) => Cell::Bytes(bytes),
            Self::Null => Cell::Null,
        }
    }
}

/// An instant as sqlx writes it into `SQLite`.
fn sqlite_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, false)
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

impl From<serde_json::Value> for Cell<'_> {
    fn from(json: serde_json::Value) -> Self {
        Self::Json(json)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell<'_> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
