//! What is stored: all rows of all tables, so that a test can say that nothing was.

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};
use std::collections::{BTreeMap, BTreeSet};

use super::{App, Backend};

/// The rows of a database.
#[derive(Debug)]
pub(crate) struct Rows {
    backend: Backend,
    database: DatabaseConnection,
    /// For each table a statement that gives each row as one text.
    statements: BTreeMap<String, String>,
}

impl Rows {
    /// The rows of an app's database.
    pub(crate) async fn of(app: &App, backend: Backend) -> Self {
        Self::at(&app.database.url, backend).await
    }

    /// The rows of the database at a URL.
    pub(crate) async fn at(url: &str, backend: Backend) -> Self {
        let database = Database::connect(url).await.expect("the database");
        let tables = match backend {
            Backend::Sqlite => {
                "select name as text from sqlite_master where type = 'table' and name not like 'sqlite_%'"
            }
            Backend::Postgres => {
                "select table_name as text from information_schema.tables where table_schema = 'public'"
            }
        };
        let mut statements = BTreeMap::new();
        for table in texts(&database, tables).await {
            let statement = match backend {
                Backend::Sqlite => {
                    let columns = format!("select 'quote(' || name || ')' as text from pragma_table_info('{table}')");
                    let columns = texts(&database, &columns).await.join(" || ',' || ");
                    format!("select {columns} as text from {table} order by 1")
                }
                Backend::Postgres => format!("select to_jsonb(t)::text as text from {table} t order by 1"),
            };
            statements.insert(table, statement);
        }
        assert!(statements.len() >= 11, "{statements:?}");
        Self {
            backend,
            database,
            statements,
        }
    }

    /// Puts a row in: a table, and `values (…)`.
    pub(crate) async fn insert(&self, row: &str) {
        let statement = format!("insert into {row}");
        self.database.execute_unprepared(&statement).await.expect(row);
    }

    /// The tables that have a column.
    pub(crate) async fn tables_with(&self, column: &str) -> BTreeSet<String> {
        let mut tables = BTreeSet::new();
        for table in self.statements.keys() {
            let columns = match self.backend {
                Backend::Sqlite => format!("select name as text from pragma_table_info('{table}')"),
                Backend::Postgres => {
                    format!(
                        "select column_name::text as text from information_schema.columns where table_name = '{table}'"
                    )
                }
            };
            if texts(&self.database, &columns).await.iter().any(|name| name == column) {
                tables.insert(table.clone());
            }
        }
        tables
    }

    /// All rows, by table.
    pub(crate) async fn all(&self) -> BTreeMap<String, Vec<String>> {
        let mut rows = BTreeMap::new();
        for (table, statement) in &self.statements {
            rows.insert(table.clone(), texts(&self.database, statement).await);
        }
        rows
    }
}

async fn texts(database: &DatabaseConnection, statement: &str) -> Vec<String> {
    let statement = Statement::from_string(database.get_database_backend(), statement);
    let rows = database.query_all_raw(statement).await.expect("rows");
    rows.iter()
        .map(|row| row.try_get("", "text").expect("a text"))
        .collect()
}
