//! Parts of the customers, cut by bucket.

use crate::domain::BUCKETS;

/// A range of buckets, `begin..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    begin: i32,
    end: i32,
}

impl Buckets {
    /// All customers.
    pub const ALL: Self = Self { begin: 0, end: BUCKETS };

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

    /// Whether it is all customers.
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// What rows must fulfil to be in this part: SQL that begins with `and`, or nothing.
    pub(super) fn and_in(self) -> String {
        if self.is_all() {
            String::new()
        } else {
            format!("and p.bucket >= {} and p.bucket < {}", self.begin, self.end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_disjoint_and_whole() {
        let (mut parts, mut singles) = (vec![Buckets::part(1, 3)], 0);
        let whole = parts[0];
        let mut next = whole.begin;
        while let Some(part) = parts.pop() {
            match part.halves() {
                Some([lower, upper]) => parts.extend([upper, lower]),
                None => {
                    assert_eq!((part.begin, part.end), (next, next + 1));
                    next += 1;
                    singles += 1;
                }
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
