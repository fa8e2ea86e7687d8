//! The five compression types of record batches, with bounded output.
//!
//! It reads everything that Kafka's Java classes read, and they read everything that it writes. The output of a
//! decompression never exceeds the caller's limit, whatever the input claims.

use super::{lz4, snappy};
use flate2::bufread::GzDecoder;
use std::io::{Read, Write};
use thiserror::Error;
use zstd::stream::raw::Operation;

/// Buffers larger than this are freed after use.
const KEPT_BUFFER_BYTES: usize = 4 << 20;
/// Lower bound of the growth of an output of unknown size.
const GROWTH_BYTES: usize = 64 << 10;

/// The compression type of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of the Java library; bare snappy is read too.
    Snappy,
    /// LZ4 frames with independent blocks.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

/// The value of `compression.<type>.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompressionLevel(pub i32);

impl Compression {
    /// All types, by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The id in the attributes of a batch.
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The compression with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|compression| compression.id() == id)
    }

    /// The name in configurations (but `none` is `uncompressed` in a topic's `compression.type`).
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Kafka's default level. LZ4 has only one level here, and ignores the value.
    pub fn default_level(self) -> CompressionLevel {
        match self {
            Self::None | Self::Snappy => CompressionLevel(0),
            Self::Gzip => CompressionLevel(-1),
            Self::Lz4 => CompressionLevel(9),
            Self::Zstd => CompressionLevel(3),
        }
    }

    /// Compresses `input` and appends it to `out`. A level out of range is clamped.
    pub fn compress(self, level: CompressionLevel, input: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(input),
            Self::Gzip => compress_gzip(level, input, out),
            Self::Snappy => snappy::compress(input, out),
            Self::Lz4 => lz4::compress(input, out),
            Self::Zstd => compress_zstd(level, input, out),
        }
    }
}

fn compress_gzip(level: CompressionLevel, input: &[u8], out: &mut Vec<u8>) {
    let level = match u32::try_from(level.0) {
        Ok(level) => flate2::Compression::new(level.clamp(1, 9)),
        Err(_) => flate2::Compression::default(),
    };
    let mut encoder = flate2::write::GzEncoder::new(out, level);
    encoder
        .write_all(input)
        .and_then(|()| encoder.try_finish())
        .expect("writing to memory cannot fail");
}

fn compress_zstd(level: CompressionLevel, input: &[u8], out: &mut Vec<u8>) {
    let range = zstd::compression_level_range();
    let level = level.0.clamp(*range.start(), *range.end());
    let compressed =
        zstd::bulk::compress(input, level).expect("zstd compresses any input in memory");
    out.extend_from_slice(&compressed);
}

/// Why the records of a batch could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecompressError {
    /// The attributes have an unknown compression id.
    #[error("no compression has the id {0}")]
    UnknownCompression(u8),
    /// The records are larger than the caller allows.
    #[error("the decompressed records exceed {limit} bytes")]
    TooLarge {
        /// The caller's limit.
        limit: usize,
    },
    /// The bytes are not of the compression type in the attributes.
    #[error("the {} stream is corrupt: {what}", .compression.name())]
    Corrupt {
        compression: Compression,
        /// The part that is wrong.
        what: &'static str,
    },
}

/// Decompresses into its own buffer, which it reuses. Each thread that validates batches has one.
#[derive(Default)]
pub struct Decompressor {
    buffer: Vec<u8>,
    zstd: Option<zstd::stream::raw::Decoder<'static>>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor")
            .field("buffer_bytes", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

impl Decompressor {
    /// Decompresses `input` to at most `limit` bytes.
    pub fn decompress(
        &mut self,
        compression: Compression,
        input: &[u8],
        limit: usize,
    ) -> Result<&[u8], DecompressError> {
        if self.buffer.len() > KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
            self.zstd = None;
        }
        let mut output = Output {
            buffer: &mut self.buffer,
            length: 0,
            limit,
        };
        match compression {
            Compression::None => output.extend(input),
            Compression::Gzip => decompress_gzip(input, &mut output),
            Compression::Snappy => snappy::decompress(input, &mut output),
            Compression::Lz4 => lz4::decompress(input, &mut output),
            Compression::Zstd => decompress_zstd(&mut self.zstd, input, &mut output),
        }
        .map_err(|stop| match stop {
            Stop::Full => DecompressError::TooLarge { limit },
            Stop::Corrupt(what) => DecompressError::Corrupt { compression, what },
        })?;
        let length = output.length;
        Ok(self.buffer.get(..length).unwrap_or_default())
    }
}

/// Why a decompression stopped early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The limit is reached, and there is more input.
    Full,
    /// The input is not a stream of its kind.
    Corrupt(&'static str),
}

/// Bounded output. `buffer` stays initialised between uses, so that no byte is zeroed twice.
pub(super) struct Output<'a> {
    buffer: &'a mut Vec<u8>,
    length: usize,
    limit: usize,
}

impl Output<'_> {
    /// Free space of `wanted` bytes, or of less up to the limit. [`Stop::Full`] if there is none.
    pub(super) fn space(&mut self, wanted: usize) -> Result<&mut [u8], Stop> {
        let wanted = wanted.min(self.limit.saturating_sub(self.length));
        if wanted == 0 {
            return Err(Stop::Full);
        }
        let end = self.length + wanted;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        self.buffer.get_mut(self.length..end).ok_or(Stop::Full)
    }

    /// Adds `written` bytes of the last space to the output.
    pub(super) fn advance(&mut self, written: usize) {
        self.length += written;
    }

    /// Appends `bytes`.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        let space = self.space(bytes.len())?;
        if space.len() < bytes.len() {
            return Err(Stop::Full);
        }
        space.copy_from_slice(bytes);
        self.advance(bytes.len());
        Ok(())
    }

    /// The growth of an output of unknown size: it doubles.
    fn growth(&self) -> usize {
        let unused = self.buffer.len() - self.length;
        if unused > 0 {
            unused
        } else {
            self.length.max(GROWTH_BYTES)
        }
    }
}

fn decompress_gzip(mut input: &[u8], output: &mut Output<'_>) -> Result<(), Stop> {
    loop {
        let mut decoder = GzDecoder::new(input);
        loop {
            let growth = output.growth();
            match output.space(growth) {
                Ok(space) => match decoder.read(space) {
                    Ok(0) => break,
                    Ok(written) => output.advance(written),
                    Err(_) => return Err(Stop::Corrupt("invalid or truncated data")),
                },
                Err(full) => {
                    if matches!(decoder.read(&mut [0]), Ok(0)) {
                        break;
                    }
                    return Err(full);
                }
            }
        }
        // Java's reader continues with another gzip member and ignores other bytes.
        input = decoder.into_inner();
        if !input.starts_with(&[0x1f, 0x8b]) {
            return Ok(());
        }
    }
}

fn decompress_zstd(
    decoder: &mut Option<zstd::stream::raw::Decoder<'static>>,
    input: &[u8],
    output: &mut Output<'_>,
) -> Result<(), Stop> {
    let decoder = match decoder {
        Some(decoder) => decoder,
        empty => {
            let new = zstd::stream::raw::Decoder::new().map_err(|_| Stop::Corrupt("no decoder"))?;
            empty.insert(new)
        }
    };
    decoder.reinit().map_err(|_| Stop::Corrupt("no decoder"))?;
    let mut rest = input;
    let mut frame_is_open = true;
    while frame_is_open || !rest.is_empty() {
        let growth = output.growth();
        let mut nothing = [0_u8; 0];
        let (space, full) = match output.space(growth) {
            Ok(space) => (space, false),
            Err(_) => (nothing.as_mut_slice(), true),
        };
        let status = decoder
            .run_on_buffers(rest, space)
            .map_err(|_| Stop::Corrupt("invalid data"))?;
        rest = rest.get(status.bytes_read..).unwrap_or_default();
        frame_is_open = status.remaining > 0;
        output.advance(status.bytes_written);
        if status.bytes_read == 0 && status.bytes_written == 0 && frame_is_open {
            return Err(if full {
                Stop::Full
            } else {
                Stop::Corrupt("truncated data")
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Compression, DecompressError, Decompressor};
    use proptest::prelude::*;

    fn compressed(compression: Compression, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compression.compress(compression.default_level(), input, &mut out);
        out
    }

    fn compressions() -> impl Strategy<Value = Compression> {
        prop::sample::select(Compression::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn round_trips(
            compression in compressions(),
            piece in prop::collection::vec(any::<u8>(), 1..2000),
            repeats in 0_usize..200,
        ) {
            let input = piece.repeat(repeats);
            let mut decompressor = Decompressor::default();
            let out = compressed(compression, &input);
            let again = decompressor.decompress(compression, &out, input.len());
            prop_assert_eq!(again, Ok(input.as_slice()));
            if !input.is_empty() {
                let limit = input.len() - 1;
                let over = decompressor.decompress(compression, &out, limit).map(<[u8]>::to_vec);
                prop_assert_eq!(over, Err(DecompressError::TooLarge { limit }));
            }
        }

        #[test]
        fn survives_any_bytes(
            compression in compressions(),
            input in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut decompressor = Decompressor::default();
            let _ = decompressor.decompress(compression, &input, 1 << 20);
        }
    }

    #[test]
    fn refuses_a_stream_cut_anywhere() {
        let input = b"the same words, the same words, the same words again".repeat(20);
        for compression in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let whole = compressed(compression, &input);
            let mut decompressor = Decompressor::default();
            for end in 0..whole.len() {
                let cut = decompressor.decompress(compression, &whole[..end], 1 << 20);
                assert_ne!(cut, Ok(input.as_slice()), "{compression:?} cut at {end}");
            }
        }
    }

    #[test]
    fn reads_several_streams_in_a_row() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut twice = compressed(compression, b"first ");
            twice.extend(compressed(compression, b"second"));
            assert_eq!(
                Decompressor::default().decompress(compression, &twice, 100),
                Ok(b"first second".as_slice())
            );
        }
    }
}
