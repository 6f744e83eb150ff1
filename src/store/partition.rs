//! Parts of the customers, cut by bucket.

use crate::domain::{BUCKETS, Timestamp};

/// How many buckets a shard has, as Citus cuts tables by default. One has a part of its customers, or some whole parts.
const PART: i32 = 32;

/// A range of buckets, `begin..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    pub(super) begin: i32,
    pub(super) end: i32,
}

impl Buckets {
    /// All customers.
    pub const ALL: Self = Self { begin: 0, end: BUCKETS };

    /// Some customers, who are in one shard where there are shards: one of [`Self::SAMPLES`].
    pub(super) const SAMPLE: Self = Self { begin: 0, end: PART };

    /// How many samples all customers are.
    pub(super) const SAMPLES: usize = (BUCKETS / PART) as usize;

    /// Part `index` of `count` equal ones, with 0 ≤ `index` < `count` ≤ [`BUCKETS`].
    pub fn part(index: i32, count: i32) -> Self {
        Self {
            begin: BUCKETS * index / count,
            end: BUCKETS * (index + 1) / count,
        }
    }

    /// The two halves; none: it is one bucket.
    pub fn halves(self) -> Option<[Self; 2]> {
        let middle = self.begin + (self.end - self.begin) / 2;
        let (lower, upper) = (Self { end: middle, ..self }, Self { begin: middle, ..self });
        (middle > self.begin).then_some([lower, upper])
    }

    /// Its parts that are in one shard each, where there are shards.
    pub fn within_shards(self) -> Vec<Self> {
        let parts = (self.begin / PART..).map(|part| Self {
            begin: self.begin.max(part * PART),
            end: self.end.min((part + 1) * PART),
        });
        parts.take_while(|part| part.begin < part.end).collect()
    }

    /// Those of a range.
    pub(super) fn between(begin: i32, end: i32) -> Self {
        Self { begin, end }
    }

    /// Since when something was done for all customers, of which is known when it was done for parts of them. None: for some it never was.
    pub(super) fn all_since(mut parts: Vec<(Self, Timestamp)>) -> Option<Timestamp> {
        parts.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
        let mut left = vec![Self::ALL];
        for (part, at) in parts {
            left = left.into_iter().flat_map(|range| range.without(part)).collect();
            if left.is_empty() {
                return Some(at);
            }
        }
        None
    }

    /// What is left of it on either side of a part.
    fn without(self, part: Self) -> impl Iterator<Item = Self> {
        let before = Self::between(self.begin, self.end.min(part.begin));
        let after = Self::between(self.begin.max(part.end), self.end);
        [before, after].into_iter().filter(|rest| rest.begin < rest.end)
    }

    /// Whether it is all customers.
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// What rows must fulfil to be in this part: SQL that begins with `and`, or nothing.
    pub(super) fn and_in(self) -> String {
        let range = format!("and p.bucket >= {} and p.bucket < {}", self.begin, self.end);
        if self.is_all() {
            String::new()
        } else if self.begin / PART == (self.end - 1) / PART {
            // In the words of the index by which a shard sees that it has none of them (`migrations`).
            format!("and p.bucket / {PART} = {} {range}", self.begin / PART)
        } else {
            range
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_timestamp(minute * 60, 0).expect("an instant")
    }

    #[track_caller]
    fn check(parts: &[(i32, i32, i64)], expected: Option<i64>) {
        let parts = parts
            .iter()
            .map(|(index, count, minute)| (Buckets::part(*index, *count), at(*minute)));
        assert_eq!(Buckets::all_since(parts.collect()), expected.map(at));
    }

    #[test]
    fn all_is_as_old_as_the_oldest_of_the_parts_that_it_takes() {
        check(&[], None);
        check(&[(0, 1, 5)], Some(5));
        check(&[(0, 4, 9), (1, 4, 9), (3, 4, 9)], None);
        check(&[(0, 4, 9), (1, 4, 6), (3, 4, 9), (2, 4, 7)], Some(6));
        // A whole one counts for each part, and a part for what is within it.
        check(&[(0, 1, 5), (0, 2, 9), (1, 2, 4)], Some(5));
        check(&[(0, 2, 7), (2, 4, 8), (3, 4, 9), (1, 2, 3)], Some(7));
        // Halves and thirds: only together are they all.
        check(&[(0, 2, 9), (2, 3, 8)], None);
        check(&[(0, 2, 9), (2, 3, 8), (1, 3, 2)], Some(2));
        check(&[(0, 1024, 9), (0, 1, 5)], Some(5));
    }

    #[test]
    fn parts_within_shards_are_disjoint_and_whole() {
        let of = |begin, end| {
            let parts = Buckets::between(begin, end).within_shards();
            parts.iter().map(|part| (part.begin, part.end)).collect::<Vec<_>>()
        };
        assert_eq!(of(0, 1024).len(), 32);
        assert_eq!(of(0, 64), [(0, 32), (32, 64)]);
        assert_eq!(of(40, 70), [(40, 64), (64, 70)]);
        assert_eq!(of(5, 6), [(5, 6)]);
        for (begin, end, part) in [
            (0, 32, Some(0)),
            (992, 1024, Some(31)),
            (40, 41, Some(1)),
            (31, 33, None),
            (0, 64, None),
        ] {
            let sql = Buckets::between(begin, end).and_in();
            let expected = part.map(|part| format!("p.bucket / 32 = {part} and"));
            assert_eq!(sql.contains("/ 32"), expected.is_some(), "{sql}");
            assert!(sql.contains(&expected.unwrap_or_default()), "{sql}");
        }
    }

    #[test]
    fn halves_are_disjoint_and_whole() {
        let (mut parts, mut singles) = (vec![Buckets::part(1, 3)], 0);
        let whole = parts[0];
        let mut next = whole.begin;
        while let Some(part) = parts.pop() {
            if let Some([lower, upper]) = part.halves() {
                parts.extend([upper, lower]);
            } else {
                assert_eq!((part.begin, part.end), (next, next + 1));
                next += 1;
                singles += 1;
            }
        }
        assert_eq!((next, singles), (whole.end, whole.end - whole.begin));
    }

    #[test]
    fn parts_are_disjoint_and_whole() {
        for count in [1, 2, 3, 7, 1000, 1024] {
            let parts: Vec<_> = (0..count).map(|index| Buckets::part(index, count)).collect();
            assert_eq!((parts[0].begin, parts[parts.len() - 1].end), (0, BUCKETS));
            assert!(
                parts
                    .windows(2)
                    .all(|pair| pair[0].end == pair[1].begin && pair[0].begin < pair[0].end),
                "{count}"
            );
        }
    }
}
