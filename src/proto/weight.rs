//! How much memory a request takes once it is decoded, estimated from its bytes and the descriptors, without decoding it.
//!
//! What counts is what is repeated: each item is kept whole, however few bytes it came in. Only requests are known here; any other
//! message has no weight. What can't be parsed ends the count, as it ends the decoding; so does an item that is one too many.

use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use super::contract;

/// What a text, a list or a map takes where it is a field.
const POINTERS: usize = 24;

/// What an item of a map takes beside its key and value, about.
const OF_MAP: usize = 32;

/// How deep messages may be nested; prost refuses what is deeper.
const DEEPEST: usize = 100;

/// What is known of a message: its fields, in order of their numbers.
#[derive(Debug, Default)]
struct Shape {
    fields: Vec<(u32, Field)>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    /// What each item takes; 0: the field is part of its message.
    item: usize,
    inner: Inner,
}

#[derive(Debug, Clone, Copy)]
enum Inner {
    /// Bytes, which are kept as they are.
    Bytes,
    /// Numbers, which may be packed, and take so many bytes each at least.
    Numbers(usize),
    /// A message, by its place among the shapes.
    Message(usize),
}

/// The shapes of all requests and of what they hold.
#[derive(Debug, Default)]
struct Shapes {
    places: HashMap<String, usize>,
    all: Vec<Shape>,
    requests: HashMap<String, usize>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let mut shapes = Shapes::default();
    // The contract is checked at the start, by those who serve it.
    let pool = contract().unwrap_or_default();
    for method in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        let request = method.input();
        let place = shapes.place(&request);
        shapes.requests.insert(request.full_name().to_owned(), place);
    }
    shapes
});

/// The field of a request that makes it take more than so many bytes, if it does: the one that takes most up to there.
pub(super) fn too_heavy(request: &str, bytes: &[u8], most: usize) -> Option<String> {
    let place = *SHAPES.requests.get(request)?;
    let mut weight = Weight::up_to(most);
    if SHAPES.weigh(place, bytes, 0, None, &mut weight).is_continue() {
        return None;
    }
    let (number, _) = weight.fields.into_iter().max_by_key(|(_, weight)| *weight)?;
    let pool = contract().ok()?;
    let field = pool.get_message_by_name(request)?.get_field(number)?;
    Some(field.name().to_owned())
}

/// The weight of a request, as far as it was counted.
#[derive(Debug)]
struct Weight {
    /// Of each of its own fields that has any. They are few.
    fields: Vec<(u32, usize)>,
    sum: usize,
    most: usize,
}

impl Weight {
    fn up_to(most: usize) -> Self {
        Self {
            fields: Vec::new(),
            sum: 0,
            most,
        }
    }

    /// Adds what an item within a field of the request takes, and ends the count where that is too much.
    fn add(&mut self, field: u32, weight: usize) -> ControlFlow<()> {
        match self.fields.iter_mut().find(|(number, _)| *number == field) {
            Some((_, sum)) => *sum += weight,
            None => self.fields.push((field, weight)),
        }
        self.sum += weight;
        if self.sum > self.most {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl Shapes {
    /// The place of a message, which gets one if it has none yet.
    fn place(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(place) = self.places.get(message.full_name()) {
            return *place;
        }
        let place = self.all.len();
        self.places.insert(message.full_name().to_owned(), place);
        self.all.push(Shape::default());
        let mut fields: Vec<(u32, Field)> = message
            .fields()
            .map(|field| (field.number(), self.field(&field)))
            .collect();
        fields.sort_unstable_by_key(|(number, _)| *number);
        self.all[place].fields = fields;
        place
    }

    fn field(&mut self, field: &FieldDescriptor) -> Field {
        let inner = match field.kind() {
            Kind::Message(message) => Inner::Message(self.place(&message)),
            Kind::String | Kind::Bytes => Inner::Bytes,
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Inner::Numbers(8),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Inner::Numbers(4),
            Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Sint64
            | Kind::Bool
            | Kind::Enum(_) => Inner::Numbers(1),
        };
        let kind = field.kind();
        // One that holds itself is kept apart, each time that it comes.
        let is_apart = |message: &MessageDescriptor| field.is_list() || holds(message, field.parent_message());
        let item = match kind.as_message() {
            Some(message) if field.is_map() => size(message, &mut Vec::new()) + OF_MAP,
            Some(message) if is_apart(message) => size(message, &mut Vec::new()),
            None if field.is_list() => own_size(&kind),
            Some(_) | None => 0,
        };
        Field { item, inner }
    }

    /// Weighs a message that stands within the field `of` of the request; none: the request itself.
    fn weigh(
        &self,
        place: usize,
        mut bytes: &[u8],
        depth: usize,
        of: Option<u32>,
        weight: &mut Weight,
    ) -> ControlFlow<()> {
        const GOES_ON: ControlFlow<()> = ControlFlow::Continue(());
        let shape = &self.all[place];
        while !bytes.is_empty() && depth <= DEEPEST {
            let Ok((number, wire)) = decode_key(&mut bytes) else {
                return GOES_ON;
            };
            let of = of.unwrap_or(number);
            let field = shape.field(number);
            let item = field.map_or(0, |field| field.item);
            let skipped = match wire {
                WireType::Varint => decode_varint(&mut bytes).map(|_| ()).is_ok(),
                WireType::SixtyFourBit => skip(&mut bytes, 8).is_some(),
                WireType::ThirtyTwoBit => skip(&mut bytes, 4).is_some(),
                // Nobody has groups. What is in one is counted as if it stood here, so that nothing hides there.
                WireType::StartGroup | WireType::EndGroup => continue,
                WireType::LengthDelimited => {
                    let length = decode_varint(&mut bytes)
                        .ok()
                        .and_then(|length| usize::try_from(length).ok());
                    let Some(inner) = length.and_then(|length| skip(&mut bytes, length)) else {
                        return GOES_ON;
                    };
                    match field.map(|field| field.inner) {
                        Some(Inner::Message(place)) => self.weigh(place, inner, depth + 1, Some(of), weight)?,
                        // Of those that are packed the first is counted below.
                        Some(Inner::Numbers(least)) => weight.add(of, item * (inner.len() / least))?,
                        Some(Inner::Bytes) => weight.add(of, inner.len())?,
                        None => {}
                    }
                    true
                }
            };
            if !skipped {
                return GOES_ON;
            }
            if item > 0 {
                weight.add(of, item)?;
            }
        }
        GOES_ON
    }
}

impl Shape {
    fn field(&self, number: u32) -> Option<&Field> {
        let found = self.fields.binary_search_by_key(&number, |(number, _)| *number);
        found.ok().map(|at| &self.fields[at].1)
    }
}

/// Takes so many bytes, if they are there.
fn skip<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// What a message takes, about as prost lays it out: singular messages are part of it, unless they hold it.
fn size(message: &MessageDescriptor, within: &mut Vec<String>) -> usize {
    within.push(message.full_name().to_owned());
    let mut field_size = |field: &FieldDescriptor| {
        let kind = field.kind();
        let presence = if field.supports_presence() { 8 } else { 0 };
        match kind.as_message() {
            _ if field.is_list() || field.is_map() => POINTERS,
            Some(inner) if within.iter().any(|outer| outer == inner.full_name()) => 8,
            Some(inner) => size(inner, within) + 8,
            None => own_size(&kind) + presence,
        }
    };
    let alone = message.fields().filter(|field| field.containing_oneof().is_none());
    let alone: usize = alone.map(|field| field_size(&field)).sum();
    let of_oneofs: usize = message
        .oneofs()
        .map(|oneof| oneof.fields().map(|field| field_size(&field)).max().unwrap_or_default() + 8)
        .sum();
    within.pop();
    alone + of_oneofs
}

fn own_size(kind: &Kind) -> usize {
    if matches!(kind, Kind::String | Kind::Bytes) {
        POINTERS
    } else {
        8
    }
}

/// Whether a message has another among what is part of it.
fn holds(message: &MessageDescriptor, other: &MessageDescriptor) -> bool {
    fn within(message: &MessageDescriptor, other: &MessageDescriptor, seen: &mut Vec<String>) -> bool {
        if message == other {
            return true;
        }
        if seen.contains(&message.full_name().to_owned()) {
            return false;
        }
        seen.push(message.full_name().to_owned());
        let fields = message.fields().filter(|field| !field.is_list() && !field.is_map());
        fields
            .filter_map(|field| field.kind().as_message().cloned())
            .any(|inner| within(&inner, other, seen))
    }
    within(message, other, &mut Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::campaign::v1 as pb;
    use prost::{Message as _, Name as _};

    fn weight(request: &str, bytes: &[u8]) -> usize {
        let mut weight = Weight::up_to(usize::MAX);
        let counted = SHAPES.weigh(SHAPES.requests[request], bytes, 0, None, &mut weight);
        assert!(counted.is_continue());
        weight.sum
    }

    /// What each empty item of a list takes by the estimate, and what it takes in truth.
    #[track_caller]
    fn check(request: &str, item: &[u8], real: usize) {
        let estimate = (weight(request, &item.repeat(11)) - weight(request, item)) / 10;
        assert!(
            (real / 2..=real * 3).contains(&estimate),
            "{request}: an item takes {real}, and is taken for {estimate}"
        );
    }

    #[test]
    fn items_are_estimated_about_right() {
        let customers = pb::UpsertCustomersRequest::full_name();
        check(&customers, &[0x0a, 0], size_of::<pb::Customer>());
        check(
            &pb::RecordEngagementsRequest::full_name(),
            &[0x0a, 0],
            size_of::<pb::Engagement>(),
        );
        check(
            &pb::StartTimelinesRequest::full_name(),
            &[0x0a, 0],
            size_of::<pb::TimelineStart>(),
        );
        // The timeline of the request, and an empty action of it.
        let timeline = pb::ApplyTimelineRequest {
            timeline: Some(pb::TimelineDefinition {
                actions: vec![pb::ActionDefinition::default()],
                ..Default::default()
            }),
            ..Default::default()
        };
        check(
            &pb::ApplyTimelineRequest::full_name(),
            &timeline.encode_to_vec(),
            size_of::<pb::ActionDefinition>(),
        );
        // Timeline ids, packed and not.
        let tick = pb::ProcessCampaignTimelinesRequest {
            timeline_ids: vec![1; 1000],
            ..Default::default()
        };
        let packed = weight(&pb::ProcessCampaignTimelinesRequest::full_name(), &tick.encode_to_vec());
        assert!((8000..=9000).contains(&packed), "{packed}");
    }

    #[test]
    fn what_is_too_heavy_is_named() {
        let customers = pb::UpsertCustomersRequest::full_name();
        let bomb = [0x0a, 0].repeat(1_000_000);
        assert_eq!(too_heavy(&customers, &bomb, 64 << 20), Some("customers".to_owned()));
        // What is too much is not looked at to its end.
        let mut weight = Weight::up_to(64 << 20);
        let counted = SHAPES.weigh(SHAPES.requests[customers.as_str()], &bomb, 0, None, &mut weight);
        assert!(counted.is_break() && weight.sum < (64 << 20) + 1000, "{}", weight.sum);
        // Behind a group, within one, and after what is unknown.
        for before in [&[0x83, 0x01, 0x84, 0x01][..], &[0x83, 0x01], &[0xfa, 0x01, 2, 0, 0]] {
            let hidden = [before, &bomb].concat();
            assert_eq!(too_heavy(&customers, &hidden, 64 << 20), Some("customers".to_owned()));
        }
        // Of no weight is what can't be decoded from there on, and what is no request.
        assert_eq!(too_heavy(&customers, &[&[0x07], &bomb[..]].concat(), 64 << 20), None);
        assert_eq!(too_heavy(&pb::Customer::full_name(), &bomb, 0), None);
    }

    /// As large as the contract allows: a thousand customers with a hundred attributes each, in 4 MiB.
    #[test]
    fn no_request_within_the_contract_is_too_heavy() {
        let number = prost_types::Value {
            kind: Some(prost_types::value::Kind::NumberValue(1.0)),
        };
        let attributes = prost_types::Struct {
            fields: (0..100).map(|n| (format!("k{n}"), number.clone())).collect(),
        };
        let customer = pb::Customer {
            customer_id: "c".repeat(128),
            display_name: "x".repeat(2000),
            attributes: Some(attributes),
            ..Default::default()
        };
        let request = pb::UpsertCustomersRequest {
            customers: vec![customer; 1000],
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        assert!(bytes.len() > 3_500_000, "{}", bytes.len());
        assert_eq!(
            too_heavy(&pb::UpsertCustomersRequest::full_name(), &bytes, 64 << 20),
            None
        );
        let weight = weight(&pb::UpsertCustomersRequest::full_name(), &bytes);
        assert!(weight < 32 << 20, "{weight}");
    }
}
