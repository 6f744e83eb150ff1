//! What a statement must be like to run on Citus, and to be sent to as few shards as it can.

use migrations::distribution::{Place, TABLES};

/// A statement that looks into all shards, and why.
pub(crate) struct AllShards {
    /// What stands in it.
    pub(crate) with: &'static str,
    /// Why it may.
    pub(crate) why: &'static str,
}

/// The statements that name nobody.
pub(crate) const ALL_SHARDS: [AllShards; 7] = [
    AllShards {
        with: "from customer_timeline_progress p where p.campaign_timeline_id = $1 and p.status = 'active' and p.next_action_at <= $2",
        why: "who is due is what a tick wants to know, and each shard has an index of it",
    },
    AllShards {
        with: "select min(p.next_action_at) as earliest from customer_timeline_progress p",
        why: "so does the next wake-up of a timeline, the least of all shards",
    },
    AllShards {
        with: "select count(*) as n from customer_timeline_progress where campaign_timeline_id = $1",
        why: "people are told how many runs a timeline has when they change it",
    },
    AllShards {
        with: "select c.customer_id from customers c where c.email_hash in",
        why: "who has an address is not known before",
    },
    AllShards {
        with: "from stopped_in_flight where lease_expires_at <= $1",
        why: "the table is nearly always empty",
    },
    AllShards {
        with: "from delivery_reports r left join customer_timeline_progress p on p.customer_id = r.customer_id",
        why: "the table is nearly always empty",
    },
    AllShards {
        with: "from request_log where created_at <= $1 order by created_at",
        why: "what is old is taken away for all, some at a time",
    },
];

/// Functions that say the same whenever they are asked, and words that are followed by a bracket and are none.
const IMMUTABLE: [&str; 20] = [
    "and", "any", "as", "case", "cast", "coalesce", "else", "exists", "from", "in", "join", "not", "nullif", "or", "r",
    "select", "then", "unnest", "when", "where",
];

/// What is wrong with a statement.
pub(crate) fn broken_rules(sql: &str) -> Vec<String> {
    let tokens = tokens(sql);
    let mut broken = Vec::new();
    let used = tables(&tokens);
    let is_excepted = ALL_SHARDS.iter().any(|one| sql.contains(one.with));
    for table in used.iter().filter(|table| table.place == Place::Customers) {
        if !is_excepted && !names_customers(&tokens, table) {
            broken.push(format!(
                "{} is used without customer_id in a join, a filter or an insert",
                table.name
            ));
        }
    }
    if is_locking(&tokens) {
        for table in &used {
            match table.place {
                Place::Customers if !is_within_shard(&tokens, table) => {
                    broken.push(format!("{} is locked over shards", table.name));
                }
                Place::Everywhere if !is_only_read(&tokens, table) => {
                    broken.push(format!("{} is locked on all nodes", table.name));
                }
                Place::Customers | Place::Everywhere | Place::Coordinator => {}
            }
        }
    }
    if tokens.first().is_some_and(|first| first == "update") {
        broken.extend(
            stable(&tokens).map(|what| format!("an UPDATE says {what}, which may say something else another time")),
        );
    }
    broken
}

/// A table that a statement uses.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    name: &'static str,
    place: Place,
    /// By which name the statement knows it.
    alias: String,
    is_inserted: bool,
}

/// Words, numbers and texts, and each other sign alone, but for `::` and comparisons.
fn tokens(sql: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '\'' {
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else if first.is_alphanumeric() || first == '_' || first == '$' {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
                .unwrap_or(rest.len())
        } else {
            ["::", "<=", ">=", "<>", "||", "@>"]
                .into_iter()
                .find(|sign| rest.starts_with(sign))
                .map_or(first.len_utf8(), str::len)
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_lowercase());
        rest = after.trim_start();
    }
    tokens
}

fn tables(tokens: &[String]) -> Vec<Used> {
    let mut used = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].as_str());
        let Some((name, place)) = TABLES.into_iter().find(|(name, _)| name == token) else {
            continue;
        };
        if !["from", "join", "update", "into", ","].contains(&before) {
            continue;
        }
        let after = |n: usize| tokens.get(at + n).map_or("", String::as_str);
        let alias = if after(1) == "as" { after(2) } else { after(1) };
        let is_alias = !alias.is_empty()
            && alias.chars().all(|c| c.is_alphanumeric() || c == '_')
            && ![
                "where", "set", "on", "join", "order", "group", "limit", "for", "left", "select",
            ]
            .contains(&alias);
        used.push(Used {
            name,
            place,
            alias: if is_alias { alias.to_owned() } else { String::new() },
            is_inserted: before == "into",
        });
    }
    used
}

/// Where the statement names the customers of a table: the places after `customer_id`.
fn places_of_customer<'a>(tokens: &'a [String], table: &'a Used) -> impl Iterator<Item = usize> + 'a {
    tokens.iter().enumerate().filter_map(move |(at, token)| {
        let is_qualified = at >= 2 && tokens[at - 1] == ".";
        let alias = if is_qualified { tokens[at - 2].as_str() } else { "" };
        (token == "customer_id" && (alias == table.alias || alias == table.name || alias.is_empty())).then_some(at)
    })
}

fn names_customers(tokens: &[String], table: &Used) -> bool {
    let after = |at: usize| tokens.get(at + 1).map_or("", String::as_str);
    if table.is_inserted {
        let columns = tokens
            .iter()
            .skip_while(|token| *token != "(")
            .take_while(|token| *token != ")");
        return columns.into_iter().any(|token| token == "customer_id");
    }
    places_of_customer(tokens, table).any(|at| {
        let begin = if tokens[at - 1] == "." { at - 2 } else { at };
        let before = begin.checked_sub(1).map_or("", |before| tokens[before].as_str());
        // (customer_id, …) compared as one.
        let closed = tokens[at..]
            .iter()
            .position(|token| token == ")")
            .map_or("", |close| after(at + close));
        let compares = |token: &str| ["=", "<", ">", "<=", ">=", "in"].contains(&token);
        compares(after(at)) || before == "=" || (before == "(" && after(at) == "," && compares(closed))
    })
}

fn is_locking(tokens: &[String]) -> bool {
    tokens
        .windows(2)
        .any(|pair| pair[0] == "for" && ["update", "share", "key", "no"].contains(&pair[1].as_str()))
}

/// Whether whoever is locked is given by a parameter, which says in which shard that is.
fn is_within_shard(tokens: &[String], table: &Used) -> bool {
    places_of_customer(tokens, table).any(|at| {
        let after = |n: usize| tokens.get(at + n).map_or("", String::as_str);
        after(1) == "=" && (after(2).starts_with('$') || (after(2) == "any" && after(4).starts_with('$')))
    })
}

/// Whether the locking clause is about other tables.
fn is_only_read(tokens: &[String], table: &Used) -> bool {
    let of = tokens
        .windows(2)
        .rev()
        .find(|pair| pair[0] == "of")
        .map(|pair| pair[1].as_str());
    of.is_some_and(|of| of != table.alias && of != table.name)
}

/// What an UPDATE says that depends on when or for whom it is said.
fn stable(tokens: &[String]) -> impl Iterator<Item = String> + '_ {
    let before = |at: usize| at.checked_sub(1).map_or("", |before| tokens[before].as_str());
    tokens.iter().enumerate().filter_map(move |(at, token)| {
        let after = tokens.get(at + 1).map_or("", String::as_str);
        let is_name = token.chars().all(|c| c.is_alphanumeric() || c == '_');
        let calls = after == "(" && is_name && !IMMUTABLE.contains(&token.as_str());
        let of_time = [
            "current_timestamp",
            "current_date",
            "current_time",
            "localtimestamp",
            "interval",
        ]
        .contains(&token.as_str());
        // A parameter or a text is read when the statement is planned, by one type after the other; the text of a column depends on its
        // type. JSON says the same to all.
        let is_cast = |at: usize| tokens.get(at).is_some_and(|token| token == "::");
        let read = std::iter::successors(Some(at), |at| at.checked_sub(2).filter(|before| is_cast(*before))).last();
        let casts = is_cast(at) && after != "jsonb" && !read.is_some_and(|read| before(read).starts_with(['$', '\'']));
        let of_column =
            token == "cast" && after == "(" && !tokens[at..].iter().take(6).any(|word| word.ends_with("_actions"));
        (calls || of_time || casts || of_column).then(|| format!("{} {token} {after}", before(at)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expected: Option<&str>) {
        let broken = broken_rules(sql);
        match expected {
            None => assert!(broken.is_empty(), "{sql}: {broken:?}"),
            Some(expected) => assert!(broken.len() == 1 && broken[0].contains(expected), "{sql}: {broken:?}"),
        }
    }

    #[test]
    fn whoever_is_meant_is_named() {
        let without = "without customer_id";
        for (sql, expected) in [
            ("select * from customers where customer_id = $1", None),
            ("select * from customers c where c.pipeline_stage = $1", Some(without)),
            (
                "select c.customer_id from customers c order by c.customer_id",
                Some(without),
            ),
            (
                "select max(p.customer_id) from customer_timeline_progress p where p.customer_id > $1",
                None,
            ),
            (
                "select 1 from customer_timeline_progress p where (p.customer_id, p.id) > ($1, $2) limit 5",
                None,
            ),
            (
                "select 1 from customer_timeline_progress p where (p.id, p.customer_id) > ($1, $2) limit 5",
                Some(without),
            ),
            (
                "select 1 from unnest($1::text[]) as r(c) join customers c on c.customer_id = r.c",
                None,
            ),
            (
                "select 1 from customers c join action_executions e on e.customer_id = c.customer_id where c.customer_id = $1",
                None,
            ),
            (
                "select 1 from customers c join action_executions e on e.progress_id = $2 where c.customer_id = $1",
                Some("action_executions"),
            ),
            ("insert into request_log (customer_id, method) values ($1, $2)", None),
            (
                "insert into delivery_reports (progress_id, attempt) values ($1, $2)",
                Some(without),
            ),
            ("delete from engagement_events where occurred_at < $1", Some(without)),
            (
                "update customer_timeline_progress set status = $2 where id = $1",
                Some(without),
            ),
            ("select id from campaign_timelines where slug = $1", None),
        ] {
            check(sql, expected);
        }
    }

    #[test]
    fn locks_stay_within_a_shard() {
        let over = "locked over shards";
        for (sql, expected) in [
            ("select 1 from customers where customer_id = $1 for update", None),
            (
                "select 1 from unnest($1::text[]) as u(c) join customers c on c.customer_id = u.c and c.customer_id = any($1::text[]) for update of c",
                None,
            ),
            (
                "select 1 from unnest($1::text[]) as u(c) join customers c on c.customer_id = u.c for key share of c",
                Some(over),
            ),
            (
                "select 1 from customer_timeline_progress p where p.customer_id > $1 for update of p skip locked",
                Some(over),
            ),
            (
                "select id from campaign_timelines where id = $1 for share",
                Some("locked on all nodes"),
            ),
            (
                "select 1 from customers c join campaigns a on true where c.customer_id = $1 for update of c",
                None,
            ),
            ("select done_slot from tick_schedule for update", None),
        ] {
            check(sql, expected);
        }
    }

    #[test]
    fn an_update_depends_on_nothing_but_rows_and_parameters() {
        let start = "update customers set";
        let end = "where customer_id = $1";
        let stable = "may say something else";
        for (set, expected) in [
            ("engagement_score = coalesce(engagement_score, $2::integer)", None),
            ("updated_at = nullif($2, '0001-01-01T00:00:00Z'::timestamptz)", None),
            ("engagement_score = any($2::text::integer[])", None),
            ("attributes = $2::text::jsonb || display_name::jsonb", None),
            ("attributes = updated_at::text::jsonb", Some(stable)),
            ("updated_at = now()", Some(stable)),
            ("updated_at = current_timestamp", Some(stable)),
            ("updated_at = updated_at + interval '1 day'", Some(stable)),
            ("updated_at = date_trunc('day', updated_at)", Some(stable)),
            ("display_name = updated_at::text", Some(stable)),
            ("display_name = cast(updated_at as text)", Some(stable)),
        ] {
            check(&format!("{start} {set} {end}"), expected);
        }
        check("select now() from customers where customer_id = $1", None);
        check(
            "update customer_timeline_progress set is_woken = false where customer_id = $1 and cast(failed_actions as text) <> '[]'",
            None,
        );
    }
}
