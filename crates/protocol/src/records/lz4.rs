//! LZ4 frames, exactly those that Kafka's Java classes read: with independent blocks. Checksums of header and blocks
//! are verified; content size and content checksum are skipped.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic, little-endian |
//! | 4 | flags: version 01, independent, block checksums, content size, content checksum, 00 |
//! | 5 | largest block: 4 to 7 for 64 KiB to 4 MiB, in bits 4 to 6 |
//! | 6..14 | content size, if its flag is set |
//! | then | header checksum, one byte of xxHash32 |
//! | then | blocks: length (top bit: not compressed), bytes, checksum if its flag is set; a length of 0 ends |

use super::compression::{Output, Stop};
use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into,
    get_maximum_output_size,
};
use twox_hash::XxHash32;

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// Version 1 with independent blocks, as Kafka writes.
const FLAGS: u8 = 0x60;
const LARGEST_BLOCK_64_KIB: u8 = 4 << 4;
const BLOCK_BYTES: usize = 64 << 10;
const NOT_COMPRESSED: u32 = 1 << 31;

const CONTENT_CHECKSUM: u8 = 1 << 2;
const CONTENT_SIZE: u8 = 1 << 3;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const OPTIONAL_FLAGS: u8 = CONTENT_CHECKSUM | CONTENT_SIZE | BLOCK_CHECKSUM;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[
        FLAGS,
        LARGEST_BLOCK_64_KIB,
        header_checksum(&[FLAGS, LARGEST_BLOCK_64_KIB]),
    ]);
    let mut table = CompressTable::default();
    let mut compressed = vec![0; get_maximum_output_size(BLOCK_BYTES.min(input.len()))];
    for block in input.chunks(BLOCK_BYTES) {
        let written =
            compress_into_with_table(block, &mut compressed, &mut table).unwrap_or(block.len());
        let (bytes, flag) = match compressed.get(..written) {
            Some(smaller) if written < block.len() => (smaller, 0),
            _ => (block, NOT_COMPRESSED),
        };
        let length = u32::try_from(bytes.len()).expect("a block has at most 64 KiB");
        out.extend_from_slice(&(length | flag).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(&0_u32.to_le_bytes());
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    let [_, second, _, _] = XxHash32::oneshot(0, descriptor).to_le_bytes();
    second
}

struct Frame {
    largest_block: usize,
    flags: u8,
}

pub(super) fn decompress(input: &[u8], output: &mut Output<'_>) -> Result<(), Stop> {
    let (frame, mut rest) = read_header(input)?;
    loop {
        let (length, after) = rest
            .split_first_chunk::<4>()
            .ok_or(Stop::Corrupt("truncated block length"))?;
        let field = u32::from_le_bytes(*length);
        let length = (field & !NOT_COMPRESSED) as usize;
        if length == 0 {
            return Ok(());
        }
        if length > frame.largest_block {
            return Err(Stop::Corrupt("block length"));
        }
        let (block, after) = after
            .split_at_checked(length)
            .ok_or(Stop::Corrupt("truncated block"))?;
        rest = after;
        if frame.flags & BLOCK_CHECKSUM != 0 {
            let (checksum, after) = rest
                .split_first_chunk::<4>()
                .ok_or(Stop::Corrupt("truncated checksum"))?;
            if XxHash32::oneshot(0, block) != u32::from_le_bytes(*checksum) {
                return Err(Stop::Corrupt("block checksum"));
            }
            rest = after;
        }
        if field & NOT_COMPRESSED == 0 {
            decompress_block(block, frame.largest_block, output)?;
        } else {
            output.extend(block)?;
        }
    }
}

fn read_header(input: &[u8]) -> Result<(Frame, &[u8]), Stop> {
    let descriptor = input.strip_prefix(&MAGIC).ok_or(Stop::Corrupt("magic"))?;
    let (&[flags, sizes], after) = descriptor
        .split_first_chunk::<2>()
        .ok_or(Stop::Corrupt("truncated header"))?;
    if flags & !OPTIONAL_FLAGS != FLAGS {
        return Err(Stop::Corrupt("flags"));
    }
    let largest_block = match sizes {
        0x40 | 0x50 | 0x60 | 0x70 => 1_usize << (2 * (sizes >> 4) + 8),
        _ => return Err(Stop::Corrupt("largest block")),
    };
    let content_size = if flags & CONTENT_SIZE == 0 { 0 } else { 8 };
    let (checksum, rest) = after
        .get(content_size..)
        .and_then(<[u8]>::split_first)
        .ok_or(Stop::Corrupt("truncated header"))?;
    let covered = descriptor
        .get(..2 + content_size)
        .ok_or(Stop::Corrupt("truncated header"))?;
    if header_checksum(covered) != *checksum {
        return Err(Stop::Corrupt("header checksum"));
    }
    Ok((
        Frame {
            largest_block,
            flags,
        },
        rest,
    ))
}

fn decompress_block(block: &[u8], largest: usize, output: &mut Output<'_>) -> Result<(), Stop> {
    // A block of n bytes decompresses to at most 255 n bytes.
    let wanted = largest.min(block.len().saturating_mul(255).saturating_add(64));
    let space = output.space(wanted)?;
    let is_bounded_by_limit = space.len() < wanted;
    match decompress_into(block, space) {
        Ok(written) => {
            output.advance(written);
            Ok(())
        }
        Err(DecompressError::OutputTooSmall { .. }) if is_bounded_by_limit => Err(Stop::Full),
        Err(_) => Err(Stop::Corrupt("block")),
    }
}
