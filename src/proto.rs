//! The code that is generated from `proto/`. Only `rpc`, which serves it, and `client`, which calls it, use it.

/// The descriptors of the contract and of what it imports, for reflection and for the JSON form of messages.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

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
