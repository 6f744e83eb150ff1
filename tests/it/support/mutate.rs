//! Samples of input with changes that nobody thought of, for parsers that read what strangers send.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// What parsers trip over.
const BITS: [&[u8]; 24] = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{{",
    b"{%",
    b"%}",
    b":",
    b"&a *a",
    b"--",
    b";",
    b"=?utf-8?b?",
    b"%00",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"1e999",
    b"-9223372036854775809",
];

/// One change of some bytes, at a place from 0 to 1.
#[derive(Debug, Clone)]
enum Change {
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    Repeat(f64, usize, usize),
    Flip(f64, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let bits = prop_oneof![
        proptest::sample::select(&BITS[..]).prop_map(<[u8]>::to_vec),
        vec(any::<u8>(), 1..8),
    ];
    prop_oneof![
        (0.0..1.0, bits).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (0.0..1.0, 1..60_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (0.0..1.0, 1..40_usize, 2..60_usize).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        (0.0..1.0, any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place in a small sample"
)]
fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |at: &f64| (at * bytes.len() as f64) as usize;
        match change {
            Change::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Remove(at, length) => {
                let at = place(at);
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            Change::Repeat(at, length, times) => {
                let at = place(at);
                let end = (at + length).min(bytes.len());
                let again = bytes[at..end].repeat(*times);
                bytes.splice(end..end, again);
            }
            Change::Flip(at, bit) => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
    bytes
}

/// Runs `check` on so many changed samples, the same in each run, and shows the smallest that fails.
#[track_caller]
pub(crate) fn check_changed<S: AsRef<[u8]>>(samples: &[S], cases: u32, check: impl Fn(&[u8]) -> Result<(), String>) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let inputs = (0..samples.len(), vec(change(), 0..6));
    let result = runner.run(&inputs, |(sample, changes)| {
        let input = changed(samples[sample].as_ref().to_vec(), &changes);
        check(&input).map_err(|what| TestCaseError::fail(format!("{what}: b\"{}\"", input.escape_ascii())))
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("given up: {reason}"),
    }
}
