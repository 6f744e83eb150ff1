//! Rows that are read by the place of each column. Reading by name costs as much again, for each value of each row.

use sea_orm::{DbErr, QueryResult, TryGetable};

/// Declares what a SELECT gets: the columns of a table that has a short name in it, or other expressions, each with what it becomes,
/// and their text in the same order. The SELECT begins with these columns; what comes after them is not read.
macro_rules! row {
    (
        $columns_vis:vis const $COLUMNS:ident;
        $(#[$meta:meta])*
        $vis:vis struct $Row:ident of $table:literal {
            $first:ident: $First:ty,
            $($field:ident: $Type:ty $(= $sql:literal)?,)*
        }
    ) => {
        $columns_vis const $COLUMNS: &str = concat!(
            $table, ".", stringify!($first)
            $(, ", ", $crate::store::row::row!(@column $table $field $($sql)?))*
        );

        $(#[$meta])*
        $vis struct $Row {
            $first: $First,
            $($field: $Type,)*
        }

        impl sea_orm::FromQueryResult for $Row {
            fn from_query_result(row: &sea_orm::QueryResult, _: &str) -> Result<Self, sea_orm::DbErr> {
                let mut columns = 0_usize..;
                Ok(Self {
                    $first: $crate::store::row::column(row, &mut columns, stringify!($first))?,
                    $($field: $crate::store::row::column(row, &mut columns, stringify!($field))?,)*
                })
            }
        }
    };
    (@column $table:literal $field:ident) => { concat!($table, ".", stringify!($field)) };
    (@column $table:literal $field:ident $sql:literal) => { concat!($sql, " as ", stringify!($field)) };
}
pub(super) use row;

/// The next column of a row. An error names it.
pub(super) fn column<T: TryGetable>(
    row: &QueryResult,
    columns: &mut impl Iterator<Item = usize>,
    name: &str,
) -> Result<T, DbErr> {
    let at = columns.next().unwrap_or_default();
    let value = row.try_get_by_index(at);
    value.map_err(|error| DbErr::Type(format!("{name}: {error}")))
}
