//! Many rows as the parameters of one statement.
//!
//! A [`Batch`] stands in a statement's FROM as a table `u`. On `PostgreSQL` it is UNNEST over one array per column, which is
//! the fastest way in, and on `SQLite` a JSON document that `json_each` takes apart.
//!
//! Both take each row apart column by column, and for a claim with its dozen columns that was half of the statement, though most say the
//! same for all rows. Such a column travels as one plain parameter. So the text of a statement depends on what its rows have in
//! common, which is nearly always the same for one kind of work: few texts are prepared.

mod cell;

use sea_orm::{DbBackend, Value};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

pub(super) use cell::{Cell, Col};
use cell::{NO_TIME, postgres_array, postgres_type, postgres_value, sqlite_value};

/// Rows that travel as parameters.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    columns: &'static [(&'static str, Col)],
    /// By column; nothing before the first row.
    cells: Vec<Cells<'a>>,
    rows: usize,
}

/// What a column has.
#[derive(Debug)]
enum Cells<'a> {
    /// The same in all rows.
    Same(Cell<'a>),
    /// Something for each row.
    Each(Vec<Cell<'a>>),
}

impl<'a> Cells<'a> {
    /// With the cell of another row after `rows` rows.
    fn push(&mut self, cell: Cell<'a>, rows: usize) {
        match self {
            Self::Same(same) if *same == cell => {}
            Self::Same(same) => {
                let mut each = Vec::with_capacity(2 * (rows + 1));
                each.resize(rows, std::mem::replace(same, Cell::Null));
                each.push(cell);
                *self = Self::Each(each);
            }
            Self::Each(each) => each.push(cell),
        }
    }

    fn at(&self, row: usize) -> Option<&Cell<'a>> {
        match self {
            Self::Same(same) => Some(same),
            Self::Each(each) => each.get(row),
        }
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(columns: &'static [(&'static str, Col)]) -> Self {
        Self {
            columns,
            cells: Vec::new(),
            rows: 0,
        }
    }

    /// Adds a row with a cell for each column, in their order.
    pub(super) fn push(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) {
        let mut columns = 0;
        for (at, cell) in cells.into_iter().enumerate() {
            match self.cells.get_mut(at) {
                Some(known) => known.push(cell, self.rows),
                // One column says how many rows there are.
                None if at == 0 => self.cells.push(Cells::Each(vec![cell])),
                None => self.cells.push(Cells::Same(cell)),
            }
            columns += 1;
        }
        debug_assert_eq!(columns, self.columns.len(), "a cell for each column");
        self.rows += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The first column, which is text.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let first = self.cells.first();
        (0..self.rows).map(move |row| match first.and_then(|cells| cells.at(row)) {
            Some(Cell::Text(key)) => key.as_ref(),
            Some(_) | None => "",
        })
    }

    /// The same rows in several batches, by what `part` says of the first column, whose rows are of customers: in the order of the
    /// parts.
    pub(super) fn cut(self, part: impl Fn(&str) -> usize) -> Vec<Self> {
        let of_rows: Vec<usize> = self.keys().map(part).collect();
        let empty = || Self::new(self.columns);
        let mut parts: BTreeMap<usize, Self> = of_rows.iter().map(|part| (*part, empty())).collect();
        for part in &of_rows {
            parts.entry(*part).or_insert_with(empty).rows += 1;
        }
        for cells in self.cells {
            match cells {
                Cells::Same(same) => {
                    for batch in parts.values_mut() {
                        batch.cells.push(Cells::Same(same.clone()));
                    }
                }
                Cells::Each(each) => {
                    let mut of_parts: BTreeMap<usize, Vec<Cell<'a>>> = BTreeMap::new();
                    for (part, cell) in of_rows.iter().zip(each) {
                        of_parts.entry(*part).or_default().push(cell);
                    }
                    for (batch, each) in parts.values_mut().zip(of_parts.into_values()) {
                        batch.cells.push(Cells::Each(each));
                    }
                }
            }
        }
        parts.into_values().collect()
    }

    /// The table `u` and its parameters, whose numbers begin with `first`.
    pub(super) fn bind(self, backend: DbBackend, first: usize) -> (String, Vec<Value>) {
        if backend == DbBackend::Postgres {
            self.bind_arrays(first)
        } else {
            self.bind_json(first)
        }
    }

    /// The columns with what they have: none of each where there are no rows.
    fn into_columns(self) -> impl Iterator<Item = (&'static str, Col, Cells<'a>)> {
        let without_rows = std::iter::repeat_with(|| Cells::Each(Vec::new()));
        let cells = self.cells.into_iter().chain(without_rows);
        self.columns
            .iter()
            .zip(cells)
            .map(|((name, col), cells)| (*name, *col, cells))
    }

    fn bind_arrays(self, first: usize) -> (String, Vec<Value>) {
        let (mut selected, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = Vec::new();
        for (name, col, cells) in self.into_columns() {
            let number = first + values.len();
            let cell = match cells {
                Cells::Same(same) => {
                    values.push(postgres_value(same, col));
                    format!("${number}::{}", postgres_type(col))
                }
                Cells::Each(each) => {
                    let lacks_some_time = col == Col::Time && each.contains(&Cell::Null);
                    let (array, array_type) = postgres_array(each, col);
                    values.push(array);
                    arrays.push(format!("${number}::{array_type}"));
                    names.push(name);
                    match col {
                        Col::Time if lacks_some_time => format!("nullif(r.{name}, {NO_TIME})"),
                        Col::Json => format!("r.{name}::jsonb"),
                        Col::Text | Col::Bool | Col::Int | Col::BigInt | Col::Time | Col::Date | Col::Bytes => {
                            format!("r.{name}")
                        }
                    }
                }
            };
            selected.push(format!("{cell} as {name}"));
        }
        let (selected, arrays, names) = (selected.join(", "), arrays.join(", "), names.join(", "));
        let table = format!("(select {selected} from unnest({arrays}) as r({names})) as u");
        (table, values)
    }

    fn bind_json(self, first: usize) -> (String, Vec<Value>) {
        let (mut selected, mut document, mut same) = (Vec::new(), Document::new(self.rows), Vec::new());
        for (name, col, cells) in self.into_columns() {
            selected.push(match cells {
                Cells::Same(cell) => {
                    same.push(sqlite_value(cell, col));
                    format!("${} as {name}", first + same.len())
                }
                Cells::Each(cells) => {
                    let cell = format!("json_extract(value, '$[{}]')", document.columns.len());
                    document.columns.push(cells);
                    if col == Col::Bytes {
                        format!("unhex({cell}) as {name}")
                    } else {
                        format!("{cell} as {name}")
                    }
                }
            });
        }
        let table = format!("(select {} from json_each(${first})) as u", selected.join(", "));
        let mut values = vec![Value::from(document.to_text())];
        values.append(&mut same);
        (table, values)
    }
}

/// An array of rows, each an array of cells.
struct Document<'a> {
    columns: Vec<Vec<Cell<'a>>>,
    rows: usize,
}

impl Document<'_> {
    fn new(rows: usize) -> Self {
        Self {
            columns: Vec::new(),
            rows,
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("JSON, as it has no keys")
    }
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.rows).map(|row| Row(&self.columns, row)))
    }
}

/// A row of a document.
struct Row<'d>(&'d [Vec<Cell<'d>>], usize);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(columns, row) = self;
        serializer.collect_seq(columns.iter().filter_map(|cells| cells.get(*row)))
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::ArrayType;

    use super::*;

    #[test]
    fn a_batch_is_cut_by_customer_and_keeps_what_is_the_same() {
        let columns = &[("customer", Col::Text), ("day", Col::Int), ("token", Col::BigInt)];
        let rows = [("anna", 1), ("bert", 2), ("carl", 3), ("anna", 4)];
        let mut batch = Batch::new(columns);
        for (customer, token) in rows {
            batch.push([customer.into(), 7.into(), Some(token).into()]);
        }
        let parts = batch.cut(|customer| usize::from(customer == "bert"));
        let [others, bert] = &parts[..] else {
            panic!("{parts:?}");
        };
        assert_eq!((others.rows, bert.rows), (3, 1));
        for (batch, at, (customer, token)) in [
            (others, 0, rows[0]),
            (others, 1, rows[2]),
            (others, 2, rows[3]),
            (bert, 0, rows[1]),
        ] {
            let row: Vec<_> = batch.cells.iter().map(|cells| cells.at(at).cloned()).collect();
            let expected = [Cell::from(customer), Cell::Int(7), Cell::BigInt(token)].map(Some);
            assert_eq!(row, expected);
        }
        assert!(Batch::new(columns).cut(|_| 0).is_empty());
    }

    #[test]
    fn what_all_rows_share_travels_once() {
        let columns = &[
            ("customer", Col::Text),
            ("day", Col::Int),
            ("token", Col::BigInt),
            ("lists", Col::Json),
            ("hash", Col::Bytes),
        ];
        let batch = |rows: [(&'static str, Option<i64>); 2]| {
            let mut batch = Batch::new(columns);
            for (customer, token) in rows {
                batch.push([
                    customer.into(),
                    7.into(),
                    token.into(),
                    Cell::json(&[1]),
                    vec![10].into(),
                ]);
            }
            batch
        };
        let alike = [("anna", None), ("bert", None)];
        let (table, values) = batch(alike).bind(DbBackend::Postgres, 2);
        assert_eq!(
            table,
            "(select r.customer as customer, $3::integer as day, $4::bigint as token, $5::jsonb as lists, $6::bytea as hash \
             from unnest($2::text::text[]) as r(customer)) as u"
        );
        assert_eq!(
            values,
            [
                r#"{"anna","bert"}"#.into(),
                7.into(),
                Value::BigInt(None),
                serde_json::json!([1]).into(),
                vec![10_u8].into()
            ]
        );
        let (table, values) = batch(alike).bind(DbBackend::Sqlite, 2);
        assert_eq!(
            table,
            "(select json_extract(value, '$[0]') as customer, $3 as day, $4 as token, $5 as lists, $6 as hash from json_each($2)) as u"
        );
        let null = Value::String(None);
        assert_eq!(
            values,
            [
                r#"[["anna"],["bert"]]"#.into(),
                7.into(),
                null,
                "[1]".into(),
                vec![10_u8].into()
            ]
        );

        let unlike = [("anna", None), ("bert", Some(3))];
        let (table, values) = batch(unlike).bind(DbBackend::Postgres, 2);
        assert!(
            table.contains("r.token as token")
                && table.contains("unnest($2::text::text[], $4::text::bigint[]) as r(customer, token)"),
            "{table}"
        );
        assert_eq!(values[2], "{NULL,3}".into());
        let (table, values) = batch(unlike).bind(DbBackend::Sqlite, 2);
        assert!(
            table.contains("json_extract(value, '$[1]') as token, $4 as lists"),
            "{table}"
        );
        assert_eq!(values[0], r#"[["anna",null],["bert",3]]"#.into());
    }

    /// Instants alone travel as an array of their own, in which no cell can be NULL.
    #[test]
    fn an_instant_that_is_not_there_is_one_that_never_was() {
        let columns = &[("name", Col::Text), ("at", Col::Time)];
        let now = chrono::DateTime::UNIX_EPOCH;
        for (times, expected) in [
            ([Some(now), Some(now + chrono::TimeDelta::hours(1))], "r.at as at"),
            (
                [Some(now), None],
                "nullif(r.at, '0001-01-01T00:00:00Z'::timestamptz) as at",
            ),
        ] {
            let mut batch = Batch::new(columns);
            for time in times {
                batch.push(["anna".into(), time.into()]);
            }
            let (table, values) = batch.bind(DbBackend::Postgres, 1);
            assert!(
                table.contains(expected) && table.contains("$2::timestamptz[]"),
                "{table}"
            );
            let Value::Array(ArrayType::ChronoDateTimeUtc, Some(times)) = &values[1] else {
                panic!("{values:?}");
            };
            assert_eq!(times.len(), 2);
        }
    }

    /// Empty batches are parameters, too: of each column none.
    #[test]
    fn a_batch_without_rows_has_all_its_parameters() {
        let batch = Batch::new(&[("name", Col::Text), ("at", Col::Time)]);
        let (_, values) = batch.bind(DbBackend::Postgres, 1);
        assert_eq!(values.len(), 2);
    }
}
