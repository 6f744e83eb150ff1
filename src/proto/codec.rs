//! How messages are read and written: as prost does it. But a request that would take many times its length in memory is refused before
//! it is decoded: two bytes are an empty item of a list, for which hundreds are kept.

use prost::bytes::Buf as _;
use prost::{Message, Name};
use std::fmt::Debug;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::weight;

/// The most that a request may take in memory, in bytes, as [`weight`] estimates it: 16 times the longest message. No request within
/// the bounds of the contract comes near it.
const MOST: usize = 64 * 1024 * 1024;

/// The codec of all services.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // tonic hands over a message when all of it is there, in one piece.
        let (message, whole) = (buffer.chunk(), buffer.remaining());
        if message.len() == whole
            && let Some(field) = weight::too_heavy(&U::full_name(), message, MOST)
        {
            // As prost says what it can't decode, for which there is a layer that says whose mistake that is.
            let place = format!("{}.{field}", U::NAME);
            return Err(Status::internal(format!(
                "{}{place}: {}",
                super::UNDECODABLE,
                super::TOO_HEAVY
            )));
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
