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
