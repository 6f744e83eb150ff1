//! Which schema the database has, and bringing it up to date.
//!
//! Servers of two versions work side by side while one replaces the other, and the schema is brought up to date before the first
//! new server starts. So a schema that has steps which this program doesn't know is fine: steps only add, and take away what no
//! server of the version before uses (see `migrations`). A step that takes away notes in `service_metadata`, as `schema_floor`,
//! the step that a program must know at least, and an older one than that does not start.

use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};
use std::collections::BTreeSet;

use super::session::Session;
use super::{Store, StoreError};

/// Any number, the same for all migrators, so that they wait for each other.
pub(super) const MIGRATION_LOCK: i64 = 7_270_010_451;

/// How the steps of a database and of a program differ.
struct Difference {
    /// Steps that the database lacks.
    missing: Vec<String>,
    /// Steps of the database that the program does not know.
    unknown: Vec<String>,
    /// The step that a program must know, unless it knows it.
    floor: Option<String>,
}

#[derive(FromQueryResult)]
struct Text {
    text: String,
}

impl Store {
    /// Brings the schema up to date. Any number of processes may do so at once: one does it, the others wait. One that is up to date for a
    /// later version stays as it is.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let txn = self.begin().await?;
        if self.backend == DbBackend::Postgres {
            let lock = format!("select pg_advisory_xact_lock({MIGRATION_LOCK})");
            let locked = txn.conn.execute_unprepared(&lock).await;
            locked.map_err(|error| self.failed(error))?;
        }
        let found = difference(&txn).await?;
        found.check_floor()?;
        match (found.missing.first(), found.unknown.first()) {
            (None, _) => {}
            (Some(_), None) => {
                let migrated = Migrator::up(&txn.conn, None).await;
                migrated.map_err(|error| self.failed(error))?;
            }
            (Some(missing), Some(unknown)) => {
                return Err(StoreError::Schema(format!(
                    "the database has the step {unknown}, which this program does not know, and lacks its step {missing}: it belongs to \
                     another line of versions"
                )));
            }
        }
        txn.commit().await
    }

    /// Checks that this program can work on the schema: that of its version, or of a later one that still allows it. It is asked again
    /// and again, as another database may take the place of the one that was looked at in the beginning.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let found = difference(&self.surveyor()).await?;
        found.check_floor()?;
        if self.surveyor().read_layout().await? != self.layout {
            return Err(StoreError::Schema(
                "the database's tables were distributed, or their shards split, since this program connected: start it again".to_owned(),
            ));
        }
        if found.missing.is_empty() {
            return Ok(());
        }
        Err(StoreError::Schema(format!(
            "the database lacks {} migration(s): run `campaignd migrate` first",
            found.missing.len()
        )))
    }
}

impl Difference {
    fn check_floor(&self) -> Result<(), StoreError> {
        match &self.floor {
            None => Ok(()),
            Some(floor) => Err(StoreError::Schema(format!(
                "the database is of a later version, which only programs that know its step {floor} may use: run that version of \
                 campaignd or a later one"
            ))),
        }
    }
}

/// Compares the steps that were taken with those that are known. Changes nothing, also where there is no schema yet.
async fn difference<C: ConnectionTrait>(session: &Session<C>) -> Result<Difference, StoreError> {
    let known: BTreeSet<String> = Migrator::migrations()
        .iter()
        .map(|step| step.name().to_owned())
        .collect();
    let has_schema = session.pick(
        "select 'yes' as text where to_regclass('seaql_migrations') is not null",
        "select 'yes' as text from sqlite_master where name = 'seaql_migrations'",
    );
    let (mut taken, mut floor) = (BTreeSet::new(), None);
    if !texts(session, has_schema).await?.is_empty() {
        taken.extend(texts(session, "select version as text from seaql_migrations").await?);
    }
    if !taken.is_empty() {
        let sql = "select value as text from service_metadata where key = 'schema_floor'";
        floor = texts(session, sql).await?.pop();
    }
    Ok(Difference {
        missing: known.difference(&taken).cloned().collect(),
        unknown: taken.difference(&known).cloned().collect(),
        floor: floor.filter(|floor| !known.contains(floor)),
    })
}

async fn texts<C: ConnectionTrait>(session: &Session<C>, sql: &str) -> Result<Vec<String>, StoreError> {
    let rows: Vec<Text> = session.rows(sql, vec![]).await?;
    Ok(rows.into_iter().map(|row| row.text).collect())
}
