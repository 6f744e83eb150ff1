//! The steps of a run as spans of one trace, over ticks, servers and crashes.
//!
//! When a run is started in a call that is traced, its row keeps the context of that call. Each claim, send, record and report of it
//! is a child of that context, so that all of a run is found under one trace id; and is linked to the span in which it happened, such
//! as a tick's, which has a trace of its own: as a child of the tick each run would be in as many traces as it has days, and a
//! tick's trace would have as many spans as it has runs. Runs that were not sampled at their start have no spans at all.

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::HashMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::log::SPANS;
use crate::domain::{ActionId, Channel, ProgressId, TraceParent};

/// Where W3C trace context stands.
const TRACE_PARENT: &str = "traceparent";

/// A step of a run.
#[derive(Debug, Clone, Copy)]
pub struct RunStep {
    /// What is done, as in `send`.
    pub name: &'static str,
    /// Of which run.
    pub run: ProgressId,
    /// Of which action, and the how manyth attempt at it; none: of several.
    pub action: Option<(ActionId, u32)>,
    /// By which channel.
    pub channel: Option<Channel>,
}

/// The context in which this is called, where it is sampled.
pub fn current() -> Option<TraceParent> {
    let context = Context::current();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    TraceParent::parse(carrier.get(TRACE_PARENT)?)
}

/// The span of a step of a run; none where the run is not traced. Its `outcome` may be recorded.
pub fn run_step(parent: Option<&TraceParent>, step: RunStep) -> Span {
    let Some(parent) = parent else {
        return Span::none();
    };
    let around = Context::current().span().span_context().clone();
    let (action, attempt) = step.action.unzip();
    let span = tracing::info_span!(
        target: SPANS,
        "run",
        otel.name = step.name,
        otel.status_code = tracing::field::Empty,
        progress_id = step.run.0,
        action_id = action.map(|action| action.0),
        attempt,
        channel = step.channel.map(Channel::as_str),
        outcome = tracing::field::Empty,
    );
    let carrier = HashMap::from([(TRACE_PARENT.to_owned(), parent.as_str().to_owned())]);
    // Where nobody takes traces there is no span to set it on.
    let _ = span.set_parent(TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier));
    if around.is_sampled() {
        span.add_link(around);
    }
    span
}
