//! Fuzzing the decoder of requests, the validators, and what stands behind them: whatever the bytes, no call ends as a mistake of
//! the server, and the server goes on answering.
//!
//! A case is a method and a tape of bytes, of which the request is made (see `tape`): random bytes, a broken encoding of a good
//! request, a message with random fields, or a good request with a few of its fields changed, which gets past most validators.
//! proptest makes the tapes and shrinks the one that fails; the failure shows the method and the request's bytes, which belong
//! into `hostile` as a case with a name.
//!
//! Cases are the same in each run. For a long run, and for other cases:
//!
//! ```text
//! FUZZ_CASES=100000 FUZZ_SEED=2 cargo test --features test-support --test it fuzz
//! ```

mod good;
mod tape;

pub(crate) use good::all as good_requests;

use campaign_automation::proto::campaign::v1 as pb;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::hostile::world;
use crate::support::raw::methods;
use crate::support::{App, Backend, on_each_database};

on_each_database!(no_bytes_break_the_server);

/// How many cases there are unless `FUZZ_CASES` says so: about ten seconds of them.
const CASES: u32 = 2000;

/// How many bytes the head of an error may have. It is what clients take.
const MOST_HEAD: usize = 8 * 1024;

/// How many bytes a request may have.
const MOST_BYTES: usize = 4 * 1024 * 1024;

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"))
    })
}

async fn no_bytes_break_the_server(backend: Backend) {
    let app = App::start(backend).await;
    world(&app).await;
    let methods: Vec<(MethodDescriptor, Vec<DynamicMessage>)> = methods()
        .into_iter()
        .map(|method| {
            let good = good::requests(&method);
            (method, good)
        })
        .collect();
    let config = Config {
        cases: setting("FUZZ_CASES", CASES),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&setting("FUZZ_SEED", 1_u64).to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let cases = (0..methods.len(), proptest::collection::vec(any::<u8>(), 0..400));
    let runtime = tokio::runtime::Handle::current();
    let result = tokio::task::block_in_place(|| {
        runner.run(&cases, |(at, tape)| {
            let (method, good) = &methods[at];
            let request = tape::request(&tape, method, good);
            let answer = runtime.block_on(app.call(method, request.clone()));
            let still_there = runtime.block_on(is_there(&app));
            check(method, request.len(), answer).and(still_there).map_err(|what| {
                let bytes = request.escape_ascii();
                TestCaseError::fail(format!("{}: {what}\nrequest: b\"{bytes}\"", method.name()))
            })
        })
    });
    match result {
        Ok(()) => {}
        // The tape says nothing that the request does not.
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("given up: {reason}"),
    }
    app.server.shutdown().await.expect("stopped");
}

/// Whether the server answers.
async fn is_there(app: &App) -> Result<(), String> {
    let request = pb::GetTimelineRequest {
        timeline_id: 1,
        ..Default::default()
    };
    match app.timelines().get_timeline(request).await {
        Ok(_) => Ok(()),
        Err(status) => Err(format!("afterwards the server does not answer: {status:?}")),
    }
}

/// Checks an answer to whatever it was.
fn check(method: &MethodDescriptor, length: usize, answer: Result<Vec<Vec<u8>>, Status>) -> Result<(), String> {
    let messages = match answer {
        Ok(messages) => messages,
        Err(status) if length > MOST_BYTES && status.code() == Code::OutOfRange => return Ok(()),
        Err(status) => return check_refusal(&status),
    };
    let last = messages.last().ok_or("no answer")?;
    let last = DynamicMessage::decode(method.output(), last.as_slice()).map_err(|error| error.to_string())?;
    if method.is_server_streaming()
        && last
            .get_field_by_name("summary")
            .is_none_or(|it| it.as_message().is_none())
    {
        return Err(format!("the stream ends without a summary: {last:?}"));
    }
    check_items(&last)
}

/// Checks the errors of items, wherever they stand.
fn check_items(message: &DynamicMessage) -> Result<(), String> {
    if message.descriptor().full_name() == "google.rpc.Status" {
        let bytes = message.encode_to_vec();
        let number = message.get_field_by_name("code").and_then(|code| code.as_i32());
        let code = Code::from_i32(number.unwrap_or_default());
        return check_refusal(&Status::with_details(code, "", bytes.into()));
    }
    message.fields().try_for_each(|(_, value)| check_value(value))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "numbers and texts hold no messages")]
fn check_value(value: &Value) -> Result<(), String> {
    match value {
        Value::Message(inner) => check_items(inner),
        Value::List(list) => list.iter().try_for_each(check_value),
        _ => Ok(()),
    }
}

/// A refusal says whose mistake it is and why.
fn check_refusal(status: &Status) -> Result<(), String> {
    let told = |what: &str| Err(format!("{what}: {status:?}"));
    let blames_the_caller = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::Aborted,
    ];
    if !blames_the_caller.contains(&status.code()) {
        return told("not the caller's mistake");
    }
    if status.message().len() + status.details().len().div_ceil(3) * 4 > MOST_HEAD {
        return told("more than a head takes");
    }
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return told("no reason");
    };
    if info.domain != "campaign.v1" || !super::is_reason(&info.reason) {
        return told("no reason of this service");
    }
    if status.code() != Code::InvalidArgument {
        return Ok(());
    }
    let Some(violations) = details.bad_request() else {
        return told("no violations");
    };
    let is_bad = |field: &str| field.is_empty() || field.chars().any(char::is_control);
    if violations.field_violations.is_empty() || violations.field_violations.iter().any(|it| is_bad(&it.field)) {
        return told("no fields");
    }
    Ok(())
}
