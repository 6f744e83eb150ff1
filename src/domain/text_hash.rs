//! `PostgreSQL`'s own hash of a text, `hashtext`: Bob Jenkins's lookup3 over its bytes, with a seed of zero.
//!
//! Citus cuts tables into shards by it. So customers that are near each other by this hash are in one shard, and whoever knows it
//! can do the work of one shard after the other without asking.

/// What `hashtext` says of a text in a collation that tells all texts apart.
pub fn hashtext(text: &str) -> i32 {
    let bytes = text.as_bytes();
    // Ids are short, and their lengths fit by far.
    let start = 0x9e37_79b9_u32
        .wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        .wrapping_add(3_923_095);
    let mut state = [start; 3];
    let (words, rest) = bytes.as_chunks::<12>();
    for twelve in words {
        for (value, word) in state.iter_mut().zip(twelve.as_chunks::<4>().0) {
            *value = value.wrapping_add(u32::from_le_bytes(*word));
        }
        mix(&mut state);
    }
    for (at, byte) in rest.iter().enumerate() {
        // The lowest byte of the last one was the length's.
        let place = if at < 8 { at % 4 } else { at % 4 + 1 };
        state[at / 4] = state[at / 4].wrapping_add(u32::from(*byte) << (8 * place));
    }
    finish(state).cast_signed()
}

fn mix([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: &mut u32, z: u32, by: u32| {
        // x -= y; x ^= y rotated; y += z
        *x = x.wrapping_sub(*y) ^ y.rotate_left(by);
        *y = y.wrapping_add(z);
    };
    step(a, c, *b, 4);
    step(b, a, *c, 6);
    step(c, b, *a, 8);
    step(a, c, *b, 16);
    step(b, a, *c, 19);
    step(c, b, *a, 4);
}

fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    let step = |x: &mut u32, y: u32, by: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(by));
    step(&mut c, b, 14);
    step(&mut a, c, 11);
    step(&mut b, a, 25);
    step(&mut c, b, 16);
    step(&mut a, c, 4);
    step(&mut b, a, 14);
    step(&mut c, b, 24);
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL says: `select hashtext('…' collate "C")`.
    #[test]
    fn texts_have_the_hashes_that_postgres_gives_them() {
        for (text, hash) in [
            ("a", 1_075_015_857),
            ("abcd", -393_934_804),
            ("abcde", -445_659_580),
            ("abcdefgh", -1_960_928_205),
            ("abcdefghi", -92_131_489),
            ("abcdefghijk", -1_483_803_693),
            ("abcdefghijkl", -1_586_087_212),
            ("abcdefghijklm", 405_849_808),
            ("0123456789012345678901234567890123456789", 1_295_095_736),
        ] {
            assert_eq!(hashtext(text), hash, "{text}");
        }
    }
}
