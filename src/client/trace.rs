//! The trace to which all calls of a program belong, so that one id leads to what servers did for it.

use clap::Args;
use tonic::metadata::MetadataMap;

use crate::random::Random;
use crate::telemetry::{ProgramTrace, TraceRatio};

/// Whether its calls are traced.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// Which share of the program's runs is traced where its servers hand traces over, 0 to 1. Where `TRACEPARENT` is set, which names
    /// the trace that this run is part of, that says it.
    #[arg(
        long,
        env = "CAMPAIGN_TRACE_RATIO",
        value_name = "SHARE",
        default_value = "1",
        global = true
    )]
    pub trace_ratio: TraceRatio,
}

/// The trace of this run.
#[derive(Debug, Clone)]
pub(super) struct Trace(ProgramTrace);

impl TraceArgs {
    /// The one of the environment, or a new one.
    pub(super) fn trace(&self) -> Trace {
        let taken = ProgramTrace::taken(|name| std::env::var(name).ok());
        Trace(taken.unwrap_or_else(|| {
            let random = Random::from_os();
            let (trace, (span, _)) = (random.uuid().as_u128(), random.uuid().as_u64_pair());
            ProgramTrace::begun(trace, span, self.trace_ratio.takes(random.fraction()))
        }))
    }
}

impl Trace {
    /// Says it in a call.
    pub(super) fn put_into(&self, metadata: &mut MetadataMap) {
        self.0.put_into(metadata.as_mut());
    }

    /// How it is found; none: it is not kept.
    pub(super) fn id(&self) -> Option<String> {
        self.0.is_sampled().then(|| self.0.to_string())
    }
}
