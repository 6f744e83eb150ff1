//! Where each table lies when `PostgreSQL` is distributed by Citus.
//!
//! A step that makes a table gives it a place here. `campaignd migrate --distribute` brings tables to their places, and may be run
//! again after each later step.

/// Where a table lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In shards, by `customer_id`: all that is about one customer is on one node, in shards of the same number.
    Customers,
    /// On every node, whole. A write goes to all of them, and waits for other writes.
    Everywhere,
    /// On the coordinator alone, as `PostgreSQL` has it.
    Coordinator,
}

/// All tables but that of the steps themselves, each in its place. A table that others refer to stands before them.
pub const TABLES: [(&str, Place); 20] = [
    // Small, written by people, and joined with runs and with the ledger.
    ("campaign_timelines", Place::Everywhere),
    ("campaign_timeline_actions", Place::Everywhere),
    ("campaigns", Place::Everywhere),
    // Joined with customers by their addresses, which are no part of a customer's id.
    ("suppressions", Place::Everywhere),
    // Written with rows of customers, and all or nothing: what lies on the coordinator alone might be lost when that fails at the
    // end of such a transaction.
    ("erasures", Place::Everywhere),
    ("time_zones", Place::Everywhere),
    ("customers", Place::Customers),
    ("customer_timeline_progress", Place::Customers),
    ("action_executions", Place::Customers),
    ("engagement_events", Place::Customers),
    ("stopped_in_flight", Place::Customers),
    ("delivery_reports", Place::Customers),
    // A request about several customers is entered under an empty id, which has a shard like any other.
    ("request_log", Place::Customers),
    // Read or written by each claim, and joined with nothing. What is lost of a rate or a circuit does no harm.
    ("send_rates", Place::Coordinator),
    ("sending_holds", Place::Coordinator),
    ("channel_circuits", Place::Coordinator),
    // Each in a transaction of its own.
    ("tick_runs", Place::Coordinator),
    ("tick_parts", Place::Coordinator),
    ("tick_schedule", Place::Coordinator),
    ("service_metadata", Place::Coordinator),
];

/// The table by whose shards the others of [`Place::Customers`] are cut.
const FIRST: &str = "customers";

/// Brings a table to its place, where it is not there yet; none: it stays. The rows that it has go along.
pub fn statement(table: &str, place: Place) -> Option<String> {
    match place {
        Place::Coordinator => None,
        Place::Everywhere => Some(format!("select create_reference_table('{table}')")),
        Place::Customers => {
            let with = if table == FIRST { "default" } else { FIRST };
            Some(format!(
                "select create_distributed_table('{table}', 'customer_id', colocate_with => '{with}')"
            ))
        }
    }
}

/// What is made besides, once there are shards. With `bucket / 32` a claim finds the runs of one part of the customers that are due, and
/// finds at once that a shard has none of that part: a part is a shard, or some shards, or within one.
pub const INDEX: &str = "create index if not exists customer_timeline_progress_due_by_part \
     on customer_timeline_progress (campaign_timeline_id, (bucket / 32), next_action_at, id) \
     where status = 'active' and next_action_at is not null";
