//! Requests of a tape of bytes. Where the tape ends it goes on with zeros, and a zero makes the plainest of all choices, so that a
//! shorter tape makes a smaller request.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor, Value};
use std::collections::HashMap;

/// How deep random messages are nested, unless chance nests one deeper.
const MOST_DEEP: usize = 6;

const INTEGERS: [i64; 16] = [
    0,
    1,
    2,
    3,
    -1,
    5,
    24,
    1000,
    1001,
    3650,
    i64::MAX,
    i64::MIN,
    i32::MAX as i64,
    i32::MIN as i64,
    253_402_300_799,
    -62_135_596_800,
];

const DOUBLES: [f64; 10] = [
    0.0,
    -0.0,
    1.0,
    0.1,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN_POSITIVE,
    9_007_199_254_740_993.0,
];

/// Texts that are good for something, and texts that are good for nothing.
const TEXTS: [&str; 40] = [
    "",
    "a",
    "anna",
    "bert",
    "carl",
    "dora",
    "hook",
    "base",
    "plan",
    "new",
    "A",
    "SMS",
    "d1h0A",
    "*",
    "email",
    "time_zone",
    "anna@example.com",
    "+14155552671",
    "Europe/Berlin",
    "Pacific/Apia",
    "US/Eastern",
    "\"1\"",
    "\"2\"",
    "{{ customer.name }}",
    "{{",
    "{% for a in range(99999999) %}{{ a }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "\0",
    "a\0b",
    "\n",
    "\r\nBcc: x@example.com",
    "\u{7f}",
    "\u{85}",
    "\u{202e}",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "e\u{301}\u{301}\u{301}",
    "'; drop table customers; --",
    "%s%n$1?:a",
];

/// The bytes that decide.
struct Tape<'a> {
    bytes: &'a [u8],
}

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below this one, which is at most 65,536.
    fn below(&mut self, most: usize) -> usize {
        let high = if most > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (high | usize::from(self.byte())) % most.max(1)
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// Eight bytes.
    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }
}

/// The request that a tape makes of a method, of which there are good ones to begin with.
pub(super) fn request(bytes: &[u8], method: &MethodDescriptor, good: &[DynamicMessage]) -> Vec<u8> {
    let mut tape = Tape { bytes };
    match tape.below(8) {
        0..4 => {
            let mut message = tape.one_of(good);
            for _ in 0..=tape.below(3) {
                change(&mut tape, &mut message);
            }
            message.encode_to_vec()
        }
        4 | 5 => message(&mut tape, &method.input(), 0).encode_to_vec(),
        6 => {
            let mut encoded = tape.one_of(good).encode_to_vec();
            for _ in 0..=tape.below(4) {
                damage(&mut tape, &mut encoded);
            }
            encoded
        }
        _ => tape.bytes.to_vec(),
    }
}

/// Changes a field of a message, or of one within.
fn change(tape: &mut Tape<'_>, message: &mut DynamicMessage) {
    let fields: Vec<FieldDescriptor> = prost_reflect::ReflectMessage::descriptor(message).fields().collect();
    if fields.is_empty() {
        return;
    }
    let field = tape.one_of(&fields);
    // Rather within it, where there is something.
    if message.has_field(&field) && !tape.byte().is_multiple_of(4) {
        let value = message.get_field_mut(&field);
        if let Value::Message(inner) = value {
            return change(tape, inner);
        }
        if let Value::List(list) = value
            && !list.is_empty()
        {
            let at = tape.below(list.len());
            if let Value::Message(inner) = &mut list[at] {
                return change(tape, inner);
            }
        }
    }
    match tape.below(8) {
        0 => message.clear_field(&field),
        _ => message.set_field(&field, value(tape, &field, 1)),
    }
}

/// A message with random fields.
fn message(tape: &mut Tape<'_>, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        // Of a oneof the last one counts.
        if tape.below(3) == 0 || depth > MOST_DEEP && tape.below(16) != 1 {
            continue;
        }
        let value = value(tape, &field, depth + 1);
        message.set_field(&field, value);
    }
    message
}

fn value(tape: &mut Tape<'_>, field: &FieldDescriptor, depth: usize) -> Value {
    let kind = field.kind();
    if let (true, Kind::Message(entry)) = (field.is_map(), &kind) {
        let of = entry.map_entry_value_field();
        let mut map = HashMap::new();
        for _ in 0..tape.below(4) {
            map.insert(MapKey::String(text(tape)), single(tape, &of.kind(), depth));
        }
        return Value::Map(map);
    }
    if !field.is_list() {
        return single(tape, &kind, depth);
    }
    match tape.below(32) {
        // One of them very often.
        31 if depth < 3 => Value::List(vec![single(tape, &kind, depth); 1001]),
        count => Value::List((0..count % 4).map(|_| single(tape, &kind, depth)).collect()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "whatever number it becomes")]
fn single(tape: &mut Tape<'_>, kind: &Kind, depth: usize) -> Value {
    match kind {
        Kind::Double => Value::F64(double(tape)),
        Kind::Float => Value::F32(double(tape) as f32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(integer(tape) as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(integer(tape)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(integer(tape).unsigned_abs() as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(integer(tape).unsigned_abs()),
        Kind::Bool => Value::Bool(tape.byte() % 2 == 1),
        Kind::String => Value::String(text(tape)),
        Kind::Bytes => Value::Bytes(text(tape).into_bytes().into()),
        Kind::Enum(_) => Value::EnumNumber(match tape.below(8) {
            0 => integer(tape) as i32,
            known => i32::try_from(known).expect("a small number"),
        }),
        Kind::Message(descriptor) => Value::Message(message(tape, descriptor, depth)),
    }
}

fn integer(tape: &mut Tape<'_>) -> i64 {
    match tape.below(24) {
        16.. => i64::from_be_bytes(tape.word().to_be_bytes()) >> tape.below(64),
        known => INTEGERS[known],
    }
}

fn double(tape: &mut Tape<'_>) -> f64 {
    match tape.below(12) {
        10.. => f64::from_bits(tape.word()),
        known => DOUBLES[known],
    }
}

fn text(tape: &mut Tape<'_>) -> String {
    match tape.below(64) {
        known @ 0..40 => TEXTS[known].to_owned(),
        40..44 => "x".repeat(tape.below(300)),
        44 => "x".repeat(tape.below(65_536) * 4),
        45 => "{{ ".repeat(tape.below(20_000)),
        46 => "\u{1}".repeat(tape.below(20_000)),
        47 => "(".repeat(tape.below(20_000)),
        // Chains that would run the parser of templates out of stack, if it saw them.
        52 => format!("{{{{ {}a }}}}", "not ".repeat(tape.below(16_000))),
        53 => format!("{{{{ a{} }}}}", "|upper".repeat(tape.below(10_000))),
        54 => format!("{{{{ a{} }}}}", ".b".repeat(tape.below(30_000))),
        55 => format!("{{{{ 1{} }}}}", "**9".repeat(tape.below(20_000))),
        48 => format!("{{{{ {} }}}}", "(".repeat(tape.below(20_000))),
        50 => "{% if a %}".repeat(tape.below(6_000)),
        51 => format!("{{{{ {}1{} }}}}", "[".repeat(5000), "]".repeat(tape.below(10_000))),
        _ => (0..tape.below(12))
            .map(|_| {
                char::from_u32(u32::try_from(tape.word() % 0x11_0000).expect("a small number")).unwrap_or('\u{fffd}')
            })
            .collect(),
    }
}

/// Damages an encoded message in one place.
fn damage(tape: &mut Tape<'_>, bytes: &mut Vec<u8>) {
    let at = tape.below(bytes.len() + 1);
    let new = tape.byte();
    match tape.below(7) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << (new % 8),
        2 if at < bytes.len() => bytes[at] = new,
        3 if at < bytes.len() => drop(bytes.remove(at)),
        4 => bytes.insert(at, new),
        // A number without end, which may be a length.
        5 => drop(bytes.splice(at..at, [0xff; 9].into_iter().chain([new % 3]))),
        _ => bytes.extend(bytes[at..].to_vec()),
    }
}
