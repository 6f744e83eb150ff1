//! Whether the other end of a connection has said yet what it wants. Until then it has a place among the new ones.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::places::Place;

/// The length of what HTTP/2 begins with, in bytes. Before that nobody can tell whether it is HTTP/1 or 2.
const PREFACE: usize = 24;

/// What was heard of the other end.
#[derive(Debug)]
pub(super) struct Greeting {
    bytes: AtomicUsize,
    is_over: AtomicBool,
    place: Mutex<Option<Place>>,
}

impl Greeting {
    /// Nothing yet.
    pub(super) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            place: Mutex::new(Some(place)),
        })
    }

    /// It has asked something, or begun to speak HTTP/2, or is about to ask over HTTP/1, whose own limit holds then.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// It is no longer new.
    pub(super) fn end(&self) {
        if !self.is_over.swap(true, Ordering::Relaxed) {
            self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    fn hear(&self, bytes: usize) {
        if !self.is_over() && self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= PREFACE {
            self.end();
        }
    }
}

/// A stream whose beginning is listened to.
#[derive(Debug)]
pub(super) struct Heard<IO> {
    stream: IO,
    greeting: Arc<Greeting>,
}

impl<IO> Heard<IO> {
    pub(super) fn new(stream: IO, greeting: Arc<Greeting>) -> Self {
        Self { stream, greeting }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.greeting.hear(buffer.filled().len() - before);
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
