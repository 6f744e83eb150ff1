//! Calls as bytes: what a generated client can't send.

use campaign_automation::proto::FILE_DESCRIPTOR_SET;
use http::uri::PathAndQuery;
use prost::bytes::{Buf as _, BufMut as _};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use std::sync::LazyLock;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use super::App;

/// The contract. To read it takes longer than most calls.
static CONTRACT: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors"));

/// All methods of the contract.
pub(crate) fn methods() -> Vec<MethodDescriptor> {
    let services = CONTRACT
        .services()
        .filter(|service| service.package_name() == "campaign.v1");
    let methods: Vec<MethodDescriptor> = services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    assert!(methods.len() >= 30, "{methods:?}");
    methods
}

/// A method of the contract.
pub(crate) fn method(name: &str) -> MethodDescriptor {
    let mut found = methods().into_iter().filter(|method| method.name() == name);
    found.next().unwrap_or_else(|| panic!("no method {name}"))
}

impl App {
    /// Calls a method with a request of these bytes, and gives the messages that it answers with.
    pub(crate) async fn call(&self, method: &MethodDescriptor, request: Vec<u8>) -> Result<Vec<Vec<u8>>, Status> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut client = tonic::client::Grpc::new(self.channel());
        let ready = client.ready().await;
        ready.map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::try_from(path).expect("a path");
        // An answer of one message is a stream of one.
        let answer = client.server_streaming(Request::new(request), path, Bytes).await?;
        let (mut messages, mut stream) = (Vec::new(), answer.into_inner());
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }
}

/// Messages that are bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length).to_vec()))
    }
}
