//! Snappy as Kafka's Java library frames it, and bare snappy as some clients send it.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | `82 'SNAPPY' 00` |
//! | 8..12, 12..16 | version and oldest compatible version, 1 |
//! | 16.. | chunks: length (4 bytes), that many bytes of one snappy block |
//!
//! A stream that does not begin with these bytes is one bare snappy block.

use super::compression::{Output, Stop};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: [u8; 4] = [0, 0, 0, 1];
const HEADER_BYTES: usize = 16;
/// The block size of Java's writer.
const BLOCK_BYTES: usize = 32 << 10;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION);
    out.extend_from_slice(&VERSION);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_BYTES) {
        let compressed = encoder
            .compress_vec(block)
            .expect("a block of 32 KiB is within snappy's limits");
        let length =
            u32::try_from(compressed.len()).expect("a block of 32 KiB grows by a sixth at most");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
}

pub(super) fn decompress(input: &[u8], output: &mut Output<'_>) -> Result<(), Stop> {
    let Some((header, mut rest)) = input
        .split_at_checked(HEADER_BYTES)
        .filter(|(header, _)| header.starts_with(&MAGIC))
    else {
        return decompress_block(input, output);
    };
    if header.ends_with(&[0, 0, 0, 0]) {
        return Err(Stop::Corrupt("version"));
    }
    while let Some((length, chunks)) = rest.split_first_chunk::<4>() {
        // Streams may be concatenated: a header may follow a chunk.
        if rest.starts_with(&MAGIC) {
            rest = rest
                .get(HEADER_BYTES..)
                .ok_or(Stop::Corrupt("truncated header"))?;
            continue;
        }
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = chunks
            .split_at_checked(length)
            .ok_or(Stop::Corrupt("truncated chunk"))?;
        decompress_block(block, output)?;
        rest = after;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Stop::Corrupt("truncated chunk length"))
    }
}

fn decompress_block(block: &[u8], output: &mut Output<'_>) -> Result<(), Stop> {
    let length = snap::raw::decompress_len(block).map_err(|_| Stop::Corrupt("block length"))?;
    if length == 0 {
        return if block.is_empty() {
            Err(Stop::Corrupt("empty block"))
        } else {
            Ok(())
        };
    }
    // Three bytes of a block decompress to at most 64 bytes, so a larger claim is wrong.
    if length / 64 > block.len() {
        return Err(Stop::Corrupt("block length"));
    }
    let space = output.space(length)?;
    if space.len() < length {
        return Err(Stop::Full);
    }
    let written = snap::raw::Decoder::new()
        .decompress(block, space)
        .map_err(|_| Stop::Corrupt("block"))?;
    output.advance(written);
    Ok(())
}
