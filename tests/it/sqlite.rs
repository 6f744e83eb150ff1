//! The embedded database: waited for when it is busy, whole when its disk is full, clear when it can't be written, and backed up
//! while it is used. That its connections are safe against power cuts is tested where they are opened, in
//! `src/store/connect.rs`.

mod backup;
mod busy;
mod full_disk;
mod read_only;

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};

use crate::support::App;

/// A connection of somebody else to an app's database.
async fn somebody_else(app: &App) -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(app.database.url.clone());
    options.max_connections(1);
    Database::connect(options).await.expect("the database")
}

async fn run(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.expect(sql);
}

/// The first column `text` of a query's first row.
async fn text(database: &DatabaseConnection, sql: &str) -> String {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let row = database.query_one_raw(statement).await.expect(sql);
    row.expect("a row").try_get("", "text").expect("a text")
}
