//! The trace of a program that calls servers and ends: taken over from who started it, or begun.
//!
//! It hands over no spans of its own. What it takes over stands in its environment, as OpenTelemetry has it for programs
//! (`TRACEPARENT`, `TRACESTATE`), and goes on to the servers as it is, so that their spans are children of whoever wrote it there.

use ::http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::HashMap;
use std::fmt;

use super::http::Out;

/// Where a program stands in a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramTrace(SpanContext);

impl ProgramTrace {
    /// The one that the environment names; none: it names none that is one.
    pub fn taken(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let fields = [("traceparent", "TRACEPARENT"), ("tracestate", "TRACESTATE")];
        let given = fields.map(|(field, name)| variable(name).map(|value| (field.to_owned(), value)));
        let carrier: HashMap<String, String> = given.into_iter().flatten().collect();
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        let taken = context.span().span_context().clone();
        taken.is_valid().then_some(Self(taken))
    }

    /// A new one, of random numbers.
    pub fn begun(trace: u128, span: u64, is_sampled: bool) -> Self {
        let flags = TraceFlags::default().with_sampled(is_sampled);
        let (trace, span) = (TraceId::from(trace), SpanId::from(span));
        Self(SpanContext::new(trace, span, flags, true, TraceState::default()))
    }

    /// Says it in the headers of a call.
    pub fn put_into(&self, headers: &mut HeaderMap) {
        let context = Context::new().with_remote_span_context(self.0.clone());
        TraceContextPropagator::new().inject_context(&context, &mut Out(headers));
    }

    /// Whether servers keep it, as far as they hand traces over to anybody.
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }
}

/// Its id, as collectors and logs have it.
impl fmt::Display for ProgramTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.trace_id().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn header(trace: &ProgramTrace, name: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        trace.put_into(&mut headers);
        let value = headers.get(name)?;
        Some(value.to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn it_is_taken_over_as_it_is() {
        let variable = |name: &str| match name {
            "TRACEPARENT" => Some(PARENT.to_owned()),
            "TRACESTATE" => Some("vendor=1".to_owned()),
            _ => None,
        };
        let taken = ProgramTrace::taken(variable).expect("a trace");
        assert_eq!(taken.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(taken.is_sampled());
        assert_eq!(header(&taken, "traceparent").as_deref(), Some(PARENT));
        assert_eq!(header(&taken, "tracestate").as_deref(), Some("vendor=1"));
        for bad in [
            "",
            "00",
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
        ] {
            assert_eq!(ProgramTrace::taken(|_| Some(bad.to_owned())), None, "{bad:?}");
        }
        assert_eq!(ProgramTrace::taken(|_| None), None);
    }

    #[test]
    fn one_that_is_begun_says_whether_it_is_kept() {
        for (is_sampled, flags) in [(true, "01"), (false, "00")] {
            let begun = ProgramTrace::begun(0xabc, 0xdef, is_sampled);
            assert_eq!(begun.to_string(), "00000000000000000000000000000abc");
            let parent = format!("00-00000000000000000000000000000abc-0000000000000def-{flags}");
            assert_eq!(header(&begun, "traceparent"), Some(parent));
        }
    }
}
