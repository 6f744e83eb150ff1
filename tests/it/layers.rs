//! Who knows whom: the arrows of `src/lib.rs`, held by reading `src/`. An arrow that is not in [`LAYERS`] is an error, and so is
//! a use of what one place alone may use.

use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the library, and the modules that it may use beside itself. The programs in `src/bin` are `bin`.
const LAYERS: [(&str, &[&str]); 20] = [
    ("auth", &["clock", "domain", "proto"]),
    (
        "bin",
        &[
            "client",
            "clock",
            "config",
            "random",
            "server",
            "signals",
            "store",
            "telemetry",
        ],
    ),
    ("channels", &["clock", "domain", "keys", "telemetry"]),
    (
        "client",
        &[
            "auth",
            "clock",
            "config",
            "proto",
            "random",
            "server",
            "signals",
            "store",
            "telemetry",
        ],
    ),
    ("clock", &[]),
    (
        "config",
        &["channels", "domain", "engine", "keys", "rest", "store", "telemetry"],
    ),
    ("domain", &[]),
    (
        "engine",
        &[
            "channels",
            "clock",
            "domain",
            "failpoint",
            "keys",
            "random",
            "store",
            "telemetry",
        ],
    ),
    ("failpoint", &[]),
    ("keys", &[]),
    ("proto", &[]),
    ("random", &[]),
    ("reload", &[]),
    ("rest", &["proto", "telemetry"]),
    (
        "rpc",
        &[
            "auth",
            "channels",
            "clock",
            "domain",
            "engine",
            "proto",
            "store",
            "telemetry",
        ],
    ),
    (
        "server",
        &[
            "auth",
            "channels",
            "clock",
            "config",
            "domain",
            "engine",
            "keys",
            "proto",
            "random",
            "reload",
            "rest",
            "rpc",
            "signals",
            "store",
            "telemetry",
            "web",
        ],
    ),
    ("signals", &[]),
    ("store", &["domain", "telemetry"]),
    ("telemetry", &["domain"]),
    ("web", &["channels", "domain", "engine"]),
];

/// What may be named in some modules only.
const RESERVED: [(&[&str], &[&str]); 9] = [
    (&["sea_orm", "sqlx", "migrations"], &["store"]),
    (
        &["tonic", "tonic_health", "tonic_reflection", "tonic_types"],
        // Telemetry goes out by OTLP, which is gRPC.
        &["auth", "rest", "rpc", "server", "client", "proto", "telemetry"],
    ),
    (
        &["prost", "prost_types", "prost_reflect"],
        &["rest", "rpc", "client", "proto"],
    ),
    (&["lettre", "mail_parser", "minijinja", "reqwest"], &["channels"]),
    (&["Utc::now", "Local::now", "SystemTime::now"], &["clock"]),
    (&["fastrand", "Uuid::new_v4", "Uuid::now_v7", "rand"], &["random"]),
    (
        &[
            "tokio",
            "async",
            "std::fs",
            "std::net",
            "std::env",
            "Instant::now",
            "tracing",
        ],
        &[
            "auth",
            "bin",
            "channels",
            "client",
            "clock",
            "config",
            "engine",
            "failpoint",
            "proto",
            "random",
            "reload",
            "rest",
            "rpc",
            "server",
            "signals",
            "store",
            "telemetry",
            "web",
        ],
    ),
    (&["axum"], &["server", "web"]),
    (
        &[
            "opentelemetry",
            "opentelemetry_otlp",
            "opentelemetry_prometheus",
            "opentelemetry_sdk",
            "prometheus",
            "tracing_opentelemetry",
            "tracing_subscriber",
        ],
        &["telemetry"],
    ),
];

/// What may be named in some files only: SQL that binds no values is text of ours, without anything of others in it.
const RESERVED_TO_FILES: (&str, &[&str]) = (
    "execute_unprepared",
    &["store/connect.rs", "store/distribute.rs", "store/schema.rs"],
);

/// What a line of a layer's file at `depth` below the layer's root uses and may not.
fn forbidden(layer: &str, depth: usize, line: &str) -> Vec<String> {
    let (_, allowed) = LAYERS
        .iter()
        .find(|(name, _)| *name == layer)
        .unwrap_or_else(|| panic!("{layer} is not in LAYERS"));
    let code = line.split("//").next().unwrap_or_default();
    let mut found: Vec<String> = used_modules(code, depth)
        .into_iter()
        .filter(|used| used != layer && !allowed.contains(&used.as_str()))
        .map(|used| format!("{layer} may not use {used}"))
        .collect();
    for (names, layers) in RESERVED.iter().filter(|(_, layers)| !layers.contains(&layer)) {
        let named = names.iter().filter(|name| mentions(code, name));
        found.extend(named.map(|name| format!("{layer} may not use {name}: only {} may", layers.join(", "))));
    }
    found
}

/// What a line of a file names that other files have to themselves.
fn reserved(file: &Path, line: &str) -> Option<String> {
    let (name, files) = RESERVED_TO_FILES;
    let code = line.split("//").next().unwrap_or_default();
    let is_reserved = mentions(code, name) && !files.iter().any(|reserved| file == Path::new(reserved));
    is_reserved.then(|| format!("{name} is for {} only", files.join(", ")))
}

/// The modules of the crate that a line names, by `crate::`, `campaign_automation::`, or enough `super::`.
fn used_modules(code: &str, depth: usize) -> Vec<String> {
    // A test module within a file is one level deeper.
    let to_root = "super::".repeat(depth + usize::from(code.starts_with(' ')) + 1);
    ["crate::", "campaign_automation::", &to_root]
        .iter()
        .flat_map(|root| code.match_indices(*root).map(|(at, root)| &code[at + root.len()..]))
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => split_group(group),
            None => vec![first_word(rest)],
        })
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()) && word != "super" && word != "self")
        .collect()
}

/// The first word of each part of a group `a::{b, c}, d}`.
fn split_group(group: &str) -> Vec<String> {
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ if depth == 0 => part.push(c),
            _ => {}
        }
    }
    parts.push(part);
    parts
        .iter()
        .map(|part| first_word(part.trim()))
        .filter(|word| !word.is_empty())
        .collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether a line has `name` as words of its own, as in a path: not within quotes or longer words.
fn mentions(code: &str, name: &str) -> bool {
    let unquoted: String = code.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    unquoted.match_indices(name).any(|(at, _)| {
        let (before, after) = (&unquoted[..at], &unquoted[at + name.len()..]);
        !before.ends_with(is_word)
            && (after.starts_with("::")
                || after.starts_with('(')
                || (name == "async" && after.starts_with(' '))
                || before.trim_end().ends_with("use"))
    })
}

/// All files of a folder, with their text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            found.push((path, text));
        }
    }
    found
}

/// The layer of a file below `src`, and how deep it is within it; none for `lib.rs`.
fn place(path: &Path) -> Option<(String, usize)> {
    let parts: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .filter(|part| part != "mod")
        .collect();
    (parts != ["lib"]).then(|| (parts[0].clone(), parts.len()))
}

#[test]
fn nobody_knows_more_than_it_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (path, text) in sources(&src) {
        let relative = path.strip_prefix(&src).expect("below src");
        let Some((layer, depth)) = place(relative) else {
            continue;
        };
        for line in text.lines() {
            let mut problems = forbidden(&layer, depth - 1, line);
            problems.extend(reserved(relative, line));
            found.extend(
                problems
                    .into_iter()
                    .map(|problem| format!("src/{}: {problem}: {line}", relative.display())),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_is_a_layer() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let lib = fs::read_to_string(lib).expect("src/lib.rs");
    let mut modules: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    modules.push("bin");
    modules.sort_unstable();
    let mut layers = LAYERS.map(|(name, _)| name);
    layers.sort_unstable();
    assert_eq!(modules, layers);
    for name in layers.into_iter().filter(|name| *name != "bin" && *name != "proto") {
        assert!(lib.contains(name), "src/lib.rs says nothing of {name}");
    }
}

#[test]
fn what_files_have_to_themselves_is_found() {
    let line = "    txn.conn.execute_unprepared(&sql).await?;";
    for (file, code, expected) in [
        ("store/claims.rs", line, true),
        ("store/schema.rs", line, false),
        ("store/claims.rs", "// not execute_unprepared(sql)", false),
    ] {
        assert_eq!(reserved(Path::new(file), code).is_some(), expected, "{file}: {code}");
    }
}

#[test]
fn forbidden_uses_are_found() {
    let cases = [
        ("store", 1, "use crate::engine::Engine;", 1),
        ("store", 1, "    let x = crate::channels::url::parse();", 1),
        ("store", 1, "use super::super::engine::Engine;", 1),
        ("store", 1, "use crate::{domain::Run, engine::{Engine, Once}, rpc};", 2),
        ("store", 1, "use crate::domain::Run;", 0),
        ("store", 1, "use super::batch::Batch; // not crate::engine", 0),
        ("channels", 2, "use super::super::url::SmtpServer;", 0),
        ("channels", 1, "use crate::store::Store;", 1),
        ("domain", 1, "use crate::clock::Clock;", 1),
        ("domain", 1, "    pub async fn wait() {}", 1),
        ("domain", 1, "use tokio::time::Instant;", 1),
        ("domain", 1, "let now = chrono::Utc::now();", 1),
        ("engine", 1, "let now = Utc::now();", 1),
        ("engine", 1, "use sea_orm::DatabaseConnection;", 1),
        ("engine", 1, "Err(tonic::Status::internal(text))", 1),
        ("engine", 1, "let x = fastrand::u32(..);", 1),
        ("engine", 1, "let id = Uuid::new_v4();", 1),
        ("engine", 1, "let text = \"tonic::Status and crate::domain\";", 0),
        ("rpc", 1, "use sea_orm::DbErr;", 1),
        ("rpc", 1, "use crate::server::Server;", 1),
        ("server", 0, "use sqlx::Pool;", 1),
        ("store", 1, "use opentelemetry::KeyValue;", 1),
        ("engine", 1, "use tracing_opentelemetry::OpenTelemetrySpanExt as _;", 1),
        ("telemetry", 1, "use crate::engine::Engine;", 1),
        ("bin", 1, "use campaign_automation::engine::Engine;", 1),
    ];
    for (layer, depth, line, expected) in cases {
        let found = forbidden(layer, depth, line);
        assert_eq!(found.len(), expected, "{layer}: {line}: {found:?}");
    }
}
