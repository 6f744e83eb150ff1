//! Many rows as the parameters of one statement.
//!
//! A [`Batch`] stands in a statement's FROM as a table `u`. On `PostgreSQL` it is UNNEST over one array per column, which is
//! the fastest way in, and on `SQLite` a JSON document that `json_each` takes apart. sea-query's arrays can't hold NULL, so there a
//! NULL travels as a value that never occurs, and NULLIF turns it back.
//!
//! Both take each row apart column by column, and for a claim with its dozen columns that was half of the statement, though most say the
//! same for all rows. Such a column travels as one plain parameter. So the text of a statement depends on what its rows have in
//! common, which is nearly always the same for one kind of work: few texts are prepared.

mod cell;

use sea_orm::{DbBackend, Value};
use std::collections::BTreeMap;

pub(super) use cell::{Cell, Col};
use cell::{array_type, json_value, null_text, postgres_value, sql_type, sqlite_value};

/// Rows that travel as parameters.
#[derive(Debug)]
pub(super) struct Batch {
    columns: &'static [(&'static str, Col)],
    /// By column; nothing before the first row.
    cells: Vec<Cells>,
    rows: usize,
}

/// What a column has.
#[derive(Debug)]
enum Cells {
    /// The same in all rows.
    Same(Cell<'static>),
    /// Something for each row.
    Each(Vec<Cell<'static>>),
}

impl Cells {
    /// With the cell of another row after `rows` rows.
    fn push(&mut self, cell: Cell<'_>, rows: usize) {
        match self {
            Self::Same(same) if *same == cell => {}
            Self::Same(same) => {
                let mut each = Vec::with_capacity(2 * (rows + 1));
                each.resize(rows, std::mem::replace(same, Cell::Null));
                each.push(cell.into_owned());
                *self = Self::Each(each);
            }
            Self::Each(each) => each.push(cell.into_owned()),
        }
    }

    fn at(&self, row: usize) -> Option<&Cell<'static>> {
        match self {
            Self::Same(same) => Some(same),
            Self::Each(each) => each.get(row),
        }
    }
}

impl Batch {
    pub(super) fn new(columns: &'static [(&'static str, Col)]) -> Self {
        Self {
            columns,
            cells: Vec::new(),
            rows: 0,
        }
    }

    /// Adds a row with a cell for each column, in their order.
    pub(super) fn push<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) {
        let mut columns = 0;
        for (at, cell) in cells.into_iter().enumerate() {
            match self.cells.get_mut(at) {
                Some(known) => known.push(cell, self.rows),
                // One column says how many rows there are.
                None if at == 0 => self.cells.push(Cells::Each(vec![cell.into_owned()])),
                None => self.cells.push(Cells::Same(cell.into_owned())),
            }
            columns += 1;
        }
        debug_assert_eq!(columns, self.columns.len(), "a cell for each column");
        self.rows += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The same rows in several batches, by what `part` says of the first column, whose rows are of customers: in the order of the
    /// parts.
    pub(super) fn cut(self, part: impl Fn(&str) -> usize) -> Vec<Self> {
        let of_row = |row: usize| match self.cells.first().and_then(|customers| customers.at(row)) {
            Some(Cell::Text(customer)) => part(customer),
            Some(_) | None => part(""),
        };
        let of_rows: Vec<usize> = (0..self.rows).map(of_row).collect();
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
                    let mut of_parts: BTreeMap<usize, Vec<Cell<'static>>> = BTreeMap::new();
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

    fn bind_arrays(self, first: usize) -> (String, Vec<Value>) {
        let (mut selected, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = Vec::new();
        let without_rows = std::iter::repeat_with(|| Cells::Each(Vec::new()));
        let cells = self.cells.into_iter().chain(without_rows);
        for ((at, (name, col)), cells) in self.columns.iter().enumerate().zip(cells) {
            let param = format!("${}::{}", first + at, sql_type(*col));
            let cell = match cells {
                Cells::Same(same) => {
                    values.push(postgres_value(same, *col));
                    param
                }
                Cells::Each(each) => {
                    let each = each.into_iter().map(|cell| postgres_value(cell, *col)).collect();
                    values.push(Value::Array(array_type(*col), Some(Box::new(each))));
                    arrays.push(format!("{param}[]"));
                    names.push(*name);
                    format!("r.{name}")
                }
            };
            selected.push(match null_text(*col) {
                Some(null) => format!("nullif({cell}, {null}) as {name}"),
                None => format!("{cell} as {name}"),
            });
        }
        let (selected, arrays, names) = (selected.join(", "), arrays.join(", "), names.join(", "));
        let table = format!("(select {selected} from unnest({arrays}) as r({names})) as u");
        (table, values)
    }

    fn bind_json(self, first: usize) -> (String, Vec<Value>) {
        let (mut selected, mut each, mut same) = (Vec::new(), Vec::new(), Vec::new());
        let without_rows = std::iter::repeat_with(|| Cells::Each(Vec::new()));
        let cells = self.cells.into_iter().chain(without_rows);
        for ((name, col), cells) in self.columns.iter().zip(cells) {
            selected.push(match cells {
                Cells::Same(cell) => {
                    same.push(sqlite_value(cell, *col));
                    format!("${} as {name}", first + same.len())
                }
                Cells::Each(cells) => {
                    let cell = format!("json_extract(value, '$[{}]')", each.len());
                    each.push(cells.into_iter());
                    match col {
                        Col::Bytes => format!("unhex({cell}) as {name}"),
                        Col::Text
                        | Col::OptText
                        | Col::Bool
                        | Col::Int
                        | Col::BigInt
                        | Col::OptBigInt
                        | Col::Time
                        | Col::OptTime
                        | Col::Date
                        | Col::Json => format!("{cell} as {name}"),
                    }
                }
            });
        }
        let table = format!("(select {} from json_each(${first})) as u", selected.join(", "));
        let row = |_| -> serde_json::Value { each.iter_mut().filter_map(Iterator::next).map(json_value).collect() };
        let rows: serde_json::Value = (0..self.rows).map(row).collect();
        let mut values = vec![Value::from(rows.to_string())];
        values.append(&mut same);
        (table, values)
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::ArrayType;

    use super::*;

    #[test]
    fn a_batch_is_cut_by_customer_and_keeps_what_is_the_same() {
        let columns = &[("customer", Col::Text), ("day", Col::Int), ("token", Col::OptBigInt)];
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
        let row = |batch: &Batch, at| {
            batch
                .cells
                .iter()
                .map(|cells| cells.at(at).cloned())
                .collect::<Vec<_>>()
        };
        for (batch, at, (customer, token)) in [
            (others, 0, rows[0]),
            (others, 1, rows[2]),
            (others, 2, rows[3]),
            (bert, 0, rows[1]),
        ] {
            let expected = [Cell::from(customer), Cell::Int(7), Cell::BigInt(token)].map(Some);
            assert_eq!(row(batch, at), expected);
        }
        assert!(Batch::new(columns).cut(|_| 0).is_empty());
    }

    #[test]
    fn what_all_rows_share_travels_once() {
        let columns = &[
            ("customer", Col::Text),
            ("day", Col::Int),
            ("token", Col::OptBigInt),
            ("lists", Col::Json),
            ("hash", Col::Bytes),
        ];
        let batch = |rows: &[(&str, Option<i64>)]| {
            let mut batch = Batch::new(columns);
            for (customer, token) in rows {
                let lists = serde_json::json!([1]);
                batch.push([
                    (*customer).into(),
                    7.into(),
                    (*token).into(),
                    lists.into(),
                    vec![10].into(),
                ]);
            }
            batch
        };
        let alike = [("anna", None), ("bert", None)];
        let (table, values) = batch(&alike).bind(DbBackend::Postgres, 2);
        assert_eq!(
            table,
            "(select r.customer as customer, $3::integer as day, nullif($4::bigint, -1) as token, $5::jsonb as lists, \
             $6::bytea as hash from unnest($2::text[]) as r(customer)) as u"
        );
        assert_eq!(values[1..3], [7.into(), Value::from(-1_i64)]);
        let (table, values) = batch(&alike).bind(DbBackend::Sqlite, 2);
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
        let (table, values) = batch(&unlike).bind(DbBackend::Postgres, 2);
        assert!(
            table.contains("nullif(r.token, -1) as token")
                && table.contains("unnest($2::text[], $4::bigint[]) as r(customer, token)"),
            "{table}"
        );
        let tokens: Vec<Value> = vec![(-1_i64).into(), 3_i64.into()];
        assert_eq!(values[2], Value::Array(ArrayType::BigInt, Some(Box::new(tokens))));
        let (table, values) = batch(&unlike).bind(DbBackend::Sqlite, 2);
        assert!(
            table.contains("json_extract(value, '$[1]') as token, $4 as lists"),
            "{table}"
        );
        assert_eq!(values[0], r#"[["anna",null],["bert",3]]"#.into());
    }

    /// Empty batches are parameters, too: of each column none.
    #[test]
    fn a_batch_without_rows_has_all_its_parameters() {
        let batch = Batch::new(&[("name", Col::Text), ("at", Col::Time)]);
        let (_, values) = batch.bind(DbBackend::Postgres, 1);
        assert_eq!(values.len(), 2);
    }
}
