//! The bare loop: a thread for each connection reads a produce frame, checks the batch's CRC, writes the batch to the
//! connection's own file and answers. It is a lower bound for comparison, not a broker: it trusts the frame's lengths
//! and keeps no state.
//!
//! It accepts the frames of `frames` (Produce 7, one partition). It answers any other request like a Metadata request,
//! version 1, to a broker without topics, so that its starter sees that it serves.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use ottla_protocol::records::BatchView;

/// The size limit of a frame.
const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// Options of `ottla-load bare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address to listen on, as `host:port`.
    #[arg(long)]
    listen: String,
    /// The directory of the files.
    #[arg(long)]
    directory: PathBuf,
}

/// Serves until it is killed.
pub fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.directory)?;
    let listener = TcpListener::bind(&args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    for (index, stream) in listener.incoming().enumerate() {
        let stream = stream?;
        let path = args.directory.join(format!("{index}.log"));
        let serve = move || {
            // The client has closed the connection; that is not an error.
            let _ = serve(stream, &path);
        };
        thread::Builder::new()
            .name(format!("connection-{index}"))
            .spawn(serve)?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "it measures the cheapest way to write"
)]
fn serve(mut stream: TcpStream, path: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let file = File::create(path)?;
    let mut position = 0;
    let mut offset = 0_i64;
    let mut frame = Vec::new();
    let mut answer = Vec::new();
    loop {
        read_frame(&mut stream, &mut frame)?;
        let produce = Produce::parse(&mut frame).ok_or(io::ErrorKind::InvalidData)?;
        answer.clear();
        answer.extend_from_slice(&[0; 4]);
        answer.extend_from_slice(produce.correlation_id);
        if let Some((topic, batch)) = produce.batch {
            let view = BatchView::first(batch).map_err(io::Error::other)?;
            if !view.is_crc_valid() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let records = i64::from(view.header().record_count);
            batch[..8].copy_from_slice(&offset.to_be_bytes());
            file.write_all_at(batch, position)?;
            position += batch.len() as u64;
            answer_produce(&mut answer, topic, offset);
            offset += records;
        } else {
            answer.extend_from_slice(&1_i32.to_be_bytes());
        }
        let length = u32::try_from(answer.len() - 4).map_err(io::Error::other)?;
        answer[..4].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&answer)?;
    }
}

fn read_frame(stream: &mut TcpStream, frame: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.resize(length, 0);
    stream.read_exact(frame)
}

/// Answers one topic, given as its name with its length, and one partition. The index does not matter, because the
/// client ignores it.
fn answer_produce(answer: &mut Vec<u8>, topic: &[u8], base_offset: i64) {
    answer.extend_from_slice(&1_i32.to_be_bytes());
    answer.extend_from_slice(topic);
    answer.extend_from_slice(&1_i32.to_be_bytes());
    answer.extend_from_slice(&[0; 4 + 2]);
    for number in [base_offset, -1, 0] {
        answer.extend_from_slice(&number.to_be_bytes());
    }
    answer.extend_from_slice(&[0; 4]);
}

/// The used parts of a request, borrowed from its frame.
struct Produce<'a> {
    correlation_id: &'a [u8],
    /// The topic's name with its length, and the batch; `None` for another kind of request.
    batch: Option<(&'a [u8], &'a mut [u8])>,
}

impl<'a> Produce<'a> {
    fn parse(frame: &'a mut [u8]) -> Option<Self> {
        let (head, rest) = frame.split_at_mut_checked(8)?;
        let correlation_id = head.get(4..8)?;
        if head.get(..2)? != [0, 0] {
            return Some(Self {
                correlation_id,
                batch: None,
            });
        }
        let (_client_id, rest) = split_string(rest)?;
        // No transactional id, acks, timeout, one topic.
        let (_, rest) = rest.split_at_mut_checked(2 + 2 + 4 + 4)?;
        let (topic, rest) = split_string(rest)?;
        // One partition, its index, the length of the batch, which is the rest.
        let (_, batch) = rest.split_at_mut_checked(4 + 4 + 4)?;
        (batch.len() >= 8).then_some(Self {
            correlation_id,
            batch: Some((topic, batch)),
        })
    }
}

/// A string with its length, and what follows.
fn split_string(bytes: &mut [u8]) -> Option<(&[u8], &mut [u8])> {
    let length = usize::from(u16::from_be_bytes(bytes.first_chunk().copied()?));
    let (string, rest) = bytes.split_at_mut_checked(2 + length)?;
    Some((string, rest))
}
