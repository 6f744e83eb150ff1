//! The code that is generated from `proto/`, and how alike messages turn into one another. Only `rpc` and `rest`, which serve it, and
//! `client`, which calls it, use it.

mod codec;
mod weight;
mod wire;

use prost_reflect::DescriptorPool;
use std::sync::LazyLock;

pub use codec::{BoundedCodec, BoundedDecoder};
pub use wire::{grpc_timeout, is_grpc, soon_enough};

/// How errors about messages that can't be decoded begin, prost's and our own, which tonic hands on as they are.
pub const UNDECODABLE: &str = "failed to decode Protobuf message: ";

/// What is said of a message that would take too much memory.
pub const TOO_HEAVY: &str = "too many items";

/// The descriptors of the contract and of what it imports, for reflection and for the JSON form of messages.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The contract and what it imports, read once for all who look things up in it.
pub fn contract() -> Result<DescriptorPool, String> {
    static POOL: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| read(FILE_DESCRIPTOR_SET));
    POOL.clone()
}

fn read(descriptors: &[u8]) -> Result<DescriptorPool, String> {
    DescriptorPool::decode(descriptors).map_err(|error| error.to_string())
}

/// The paths of all methods of the contract and of other services that descriptors define, as gRPC has them:
/// `/package.Service/Method`.
pub fn method_paths(others: &[&[u8]]) -> Result<Vec<String>, String> {
    let others: Result<Vec<DescriptorPool>, String> = others.iter().copied().map(read).collect();
    let pools = [vec![contract()?], others?].concat();
    Ok(pools.iter().flat_map(paths).collect())
}

fn paths(pool: &DescriptorPool) -> Vec<String> {
    let path = |method: prost_reflect::MethodDescriptor| {
        let service = method.parent_service().full_name().to_owned();
        format!("/{service}/{}", method.name())
    };
    let methods = |service: prost_reflect::ServiceDescriptor| service.methods().map(path).collect::<Vec<_>>();
    pool.services().flat_map(methods).collect()
}

/// `campaign`
pub mod campaign {
    /// `campaign.v1`: the contract of this service.
    #[allow(
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        rustdoc::all,
        missing_docs,
        reason = "generated code is as its generator writes it"
    )]
    pub mod v1 {
        tonic::include_proto!("campaign.v1");
    }

    // A condition tests what a test inside it tests.
    macro_rules! same_tests {
        ($($name:ident),+ $(,)?) => {
            impl From<v1::condition::Test> for v1::condition_test::Test {
                fn from(test: v1::condition::Test) -> Self {
                    match test {
                        v1::condition::Test::Not(test) => Self::Not(Box::new(test)),
                        $(v1::condition::Test::$name(test) => Self::$name(test),)+
                    }
                }
            }

            impl From<v1::condition_test::Test> for v1::condition::Test {
                fn from(test: v1::condition_test::Test) -> Self {
                    match test {
                        v1::condition_test::Test::Not(test) => Self::Not(*test),
                        $(v1::condition_test::Test::$name(test) => Self::$name(test),)+
                    }
                }
            }
        };
    }
    same_tests!(
        EmailOpened,
        EngagementScoreAbove,
        PipelineStage,
        EmailClicked,
        Replied,
        Event,
        Attribute,
        TaskOutcome,
        All,
        Any
    );
}

/// `google`
pub mod google {
    /// `google.rpc`: the status of an item of a batch.
    #[allow(
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        rustdoc::all,
        missing_docs,
        reason = "generated code is as its generator writes it"
    )]
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }

    /// `google.type`: dates.
    #[allow(
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        rustdoc::all,
        missing_docs,
        reason = "generated code is as its generator writes it"
    )]
    pub mod r#type {
        tonic::include_proto!("google.r#type");
    }
}
