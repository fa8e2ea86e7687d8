//! Zigzag varints as records use them: at most 5 bytes for 32 bits, 10 for 64.
//!
//! A read never goes past the slice. A number that is too long or truncated is `None`.

/// Reads an unsigned varint of at most `MAX` bytes from the front of `bytes`.
fn read_unsigned<const MAX: usize>(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (position, &byte) in bytes.iter().take(MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            *bytes = bytes.get(position + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Reads a 32-bit zigzag varint; bits beyond the 32nd are dropped, as Kafka's reader does.
#[expect(
    clippy::cast_possible_truncation,
    reason = "Kafka drops the bits beyond the 32nd of a fifth byte"
)]
pub fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    // One byte is by far the most frequent length: deltas, null lengths, header counts.
    if let Some((&first, rest)) = bytes.split_first()
        && first & 0x80 == 0
    {
        *bytes = rest;
        return Some(zigzag_32(u32::from(first)));
    }
    read_unsigned::<5>(bytes).map(|value| zigzag_32(value as u32))
}

/// Reads a 64-bit zigzag varint.
pub fn read_i64(bytes: &mut &[u8]) -> Option<i64> {
    let value = read_unsigned::<10>(bytes)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

fn zigzag_32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// Appends `value` as a 32-bit zigzag varint.
pub fn write_i32(out: &mut Vec<u8>, value: i32) {
    write_unsigned(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// Appends `value` as a 64-bit zigzag varint.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seven bits at a time is what a varint is"
)]
fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes that `value` takes as a 32-bit zigzag varint.
pub fn len_i32(value: i32) -> usize {
    len_unsigned(u64::from(((value << 1) ^ (value >> 31)) as u32))
}

/// The bytes that `value` takes as a 64-bit zigzag varint.
pub fn len_i64(value: i64) -> usize {
    len_unsigned(((value << 1) ^ (value >> 63)) as u64)
}

fn len_unsigned(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::{len_i32, len_i64, read_i32, read_i64, write_i32, write_i64};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips_32_bits(value: i32) {
            let mut out = Vec::new();
            write_i32(&mut out, value);
            prop_assert_eq!(out.len(), len_i32(value));
            prop_assert_eq!(read_i32(&mut out.as_slice()), Some(value));
        }

        #[test]
        fn round_trips_64_bits(value: i64) {
            let mut out = Vec::new();
            write_i64(&mut out, value);
            prop_assert_eq!(out.len(), len_i64(value));
            prop_assert_eq!(read_i64(&mut out.as_slice()), Some(value));
        }
    }

    #[test]
    fn refuses_truncated_and_over_long_numbers() {
        assert_eq!(read_i32(&mut [].as_slice()), None);
        assert_eq!(read_i32(&mut [0x80, 0x80].as_slice()), None);
        assert_eq!(
            read_i32(&mut [0x80, 0x80, 0x80, 0x80, 0x80, 0].as_slice()),
            None
        );
        assert_eq!(read_i64(&mut [0x80; 11].as_slice()), None);
    }
}
