//! Many rows as the parameters of one statement.
//!
//! A [`Batch`] stands in a statement's FROM as a table `u`. On `PostgreSQL` it is UNNEST over one array per column, which is
//! the fastest way in, and on `SQLite` a JSON document that `json_each` takes apart. sea-query's arrays can't hold NULL, so a
//! NULL travels as a value that never occurs, and NULLIF turns it back.
//!
//! UNNEST takes each column apart on its own before it puts rows together, and for a claim with its two dozen columns that was half of
//! the statement, though most say the same for all rows. Such a column travels as an array of one: UNNEST pads it with NULL, and
//! COALESCE puts the one in. So the text of a statement is the same whatever its rows have in common.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use sea_orm::sea_query::ArrayType;
use sea_orm::{DbBackend, Value};
use std::fmt::Write as _;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Col {
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
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Bool(bool),
    Int(i32),
    BigInt(i64),
    Time(DateTime<Utc>),
    Date(NaiveDate),
    Json(serde_json::Value),
    Null,
}

/// Rows that travel as parameters.
#[derive(Debug)]
pub(super) struct Batch {
    columns: &'static [(&'static str, Col)],
    rows: Vec<Vec<Cell>>,
}

impl Batch {
    pub(super) fn new(columns: &'static [(&'static str, Col)]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column, in their order.
    pub(super) fn push<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table `u` and its parameters, whose numbers begin with `first`.
    pub(super) fn bind(self, backend: DbBackend, first: usize) -> (String, Vec<Value>) {
        if backend == DbBackend::Postgres {
            self.bind_arrays(first)
        } else {
            self.bind_json(first)
        }
    }

    fn bind_arrays(self, first: usize) -> (String, Vec<Value>) {
        let (mut outer, mut params, mut names) = (String::new(), String::new(), String::new());
        for (at, (name, col)) in self.columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let sql_type = sql_type(*col);
            let param = format!("${}::{sql_type}[]", first + at);
            let cell = if at == 0 {
                format!("r.{name}")
            } else {
                format!("coalesce(r.{name}, ({param})[1])")
            };
            let selected = match null_text(*col) {
                Some(null) => format!("nullif({cell}, {null})"),
                None => cell,
            };
            let _ = write!(outer, "{comma}{selected} as {name}");
            let _ = write!(params, "{comma}{param}");
            let _ = write!(names, "{comma}{name}");
        }
        let table = format!("(select {outer} from unnest({params}) as r({names})) as u");
        // One column says how many rows there are.
        let is_same = |at: usize| at > 0 && self.rows.windows(2).all(|pair| pair[0][at] == pair[1][at]);
        let lengths: Vec<usize> = (0..self.columns.len())
            .map(|at| if is_same(at) { 1 } else { self.rows.len() })
            .collect();
        let mut columns: Vec<Vec<Value>> = lengths.iter().map(|length| Vec::with_capacity(*length)).collect();
        for (row, cells) in self.rows.into_iter().enumerate() {
            for (at, cell) in cells.into_iter().enumerate().filter(|(at, _)| row < lengths[*at]) {
                columns[at].push(array_value(cell, self.columns[at].1));
            }
        }
        let types = self.columns.iter().map(|(_, col)| array_type(*col));
        let values = types
            .zip(columns)
            .map(|(array, column)| Value::Array(array, Some(Box::new(column))))
            .collect();
        (table, values)
    }

    fn bind_json(self, first: usize) -> (String, Vec<Value>) {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (name, _))| format!("json_extract(value, '$[{at}]') as {name}"))
            .collect();
        let table = format!("(select {} from json_each(${first})) as u", columns.join(", "));
        let rows: Vec<Vec<serde_json::Value>> = self
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(json_value).collect())
            .collect();
        (table, vec![Value::from(serde_json::json!(rows).to_string())])
    }
}

/// Stands for no instant: long before any that is stored.
fn no_time() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(1, 1, 1)
        .unwrap_or_default()
        .and_time(chrono::NaiveTime::MIN)
        .and_utc()
}

fn sql_type(col: Col) -> &'static str {
    match col {
        Col::Text | Col::OptText => "text",
        Col::Bool => "boolean",
        Col::Int => "integer",
        Col::BigInt | Col::OptBigInt => "bigint",
        Col::Time | Col::OptTime => "timestamptz",
        Col::Date => "date",
        Col::Json => "jsonb",
    }
}

/// What stands for NULL in a column, as SQL.
fn null_text(col: Col) -> Option<&'static str> {
    match col {
        Col::OptText => Some("''"),
        Col::OptBigInt => Some("-1"),
        Col::OptTime => Some("'0001-01-01T00:00:00Z'::timestamptz"),
        Col::Text | Col::Bool | Col::Int | Col::BigInt | Col::Time | Col::Date | Col::Json => None,
    }
}

fn array_type(col: Col) -> ArrayType {
    match col {
        Col::Text | Col::OptText => ArrayType::String,
        Col::Bool => ArrayType::Bool,
        Col::Int => ArrayType::Int,
        Col::BigInt | Col::OptBigInt => ArrayType::BigInt,
        Col::Time | Col::OptTime => ArrayType::ChronoDateTimeUtc,
        Col::Date => ArrayType::ChronoDate,
        Col::Json => ArrayType::Json,
    }
}

fn array_value(cell: Cell, col: Col) -> Value {
    match cell {
        Cell::Text(text) => text.into(),
        Cell::Bool(truth) => truth.into(),
        Cell::Int(number) => number.into(),
        Cell::BigInt(number) => number.into(),
        Cell::Time(time) => time.into(),
        Cell::Date(date) => date.into(),
        Cell::Json(json) => json.into(),
        Cell::Null => match col {
            Col::OptBigInt | Col::BigInt | Col::Int => (-1_i64).into(),
            Col::OptTime | Col::Time | Col::Date => no_time().into(),
            Col::OptText | Col::Text => "".into(),
            Col::Bool => false.into(),
            Col::Json => serde_json::Value::Null.into(),
        },
    }
}

fn json_value(cell: Cell) -> serde_json::Value {
    match cell {
        Cell::Text(text) => text.into(),
        Cell::Bool(truth) => truth.into(),
        Cell::Int(number) => number.into(),
        Cell::BigInt(number) => number.into(),
        Cell::Time(time) => sqlite_time(time).into(),
        Cell::Date(date) => date.to_string().into(),
        Cell::Json(json) => json,
        Cell::Null => serde_json::Value::Null,
    }
}

/// An instant as sqlx writes it into `SQLite`.
fn sqlite_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::BigInt(number)
    }
}

impl From<DateTime<Utc>> for Cell {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(time)
    }
}

impl From<NaiveDate> for Cell {
    fn from(date: NaiveDate) -> Self {
        Self::Date(date)
    }
}

impl From<serde_json::Value> for Cell {
    fn from(json: serde_json::Value) -> Self {
        Self::Json(json)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
