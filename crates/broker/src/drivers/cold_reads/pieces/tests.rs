//! What is read for readers, without a disk.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Asked, KEPT, MOST_AHEAD, Pieces, SIZE, Unread};

const PIECE: u64 = SIZE as u64;
const LONG: u64 = 1 << 30;

/// A request of a megabyte at `position`, of which all is committed.
fn asked(position: u64) -> Asked {
    Asked {
        position,
        end: position + (1 << 20),
        committed_end: LONG,
    }
}

fn ask(pieces: &Pieces<u8>, file: &Arc<u8>, asked: &Asked) -> Answer {
    pieces.ask(file, asked).unwrap()
}

/// The numbers of the pieces that must be read.
fn numbers(unread: &[Unread]) -> Vec<u64> {
    unread
        .iter()
        .map(|unread| unread.position / PIECE)
        .collect()
}

#[test]
fn the_first_request_is_read_and_a_sequential_reader_is_read_ahead_of() {
    let (pieces, file) = (Pieces::default(), Arc::new(0));
    let first = ask(&pieces, &file, &asked(100));
    assert_eq!(numbers(&first.unread), [0, 1, 2], "what it asks for");
    // A batch was cut short: the reader takes it from its beginning.
    let second = ask(&pieces, &file, &asked(2 * PIECE + 50));
    assert_eq!(numbers(&second.unread), [3, 4, 5, 6]);
    assert!(pieces.has(&file, 7 * PIECE - 1) && !pieces.has(&file, 7 * PIECE));
}

#[test]
fn a_reader_elsewhere_is_not_read_ahead_of() {
    let (pieces, file) = (Pieces::default(), Arc::new(0));
    drop(ask(&pieces, &file, &asked(0)));
    let elsewhere = ask(&pieces, &file, &asked(100 * PIECE));
    assert_eq!(numbers(&elsewhere.unread), [100, 101]);
    let other_file = Arc::new(0);
    let other = ask(&pieces, &other_file, &asked(PIECE));
    assert_eq!(numbers(&other.unread), [1, 2], "pieces are those of a file");
}

#[test]
fn readers_share_a_piece() {
    let (pieces, file) = (Pieces::default(), Arc::new(0));
    let mut first = ask(
        &pieces,
        &file,
        &Asked {
            end: 10,
            ..asked(0)
        },
    );
    let second = ask(
        &pieces,
        &file,
        &Asked {
            end: 10,
            ..asked(5)
        },
    );
    assert_eq!(
        numbers(&second.unread),
        [1, 2, 3, 4],
        "it goes on with a piece"
    );
    assert_eq!(second.piece.read(5, 10), None);
    let bytes = Bytes::from((0..=250).cycle().take(SIZE).collect::<Vec<u8>>());
    first.unread.remove(0).arrives(&bytes);
    for piece in [&first.piece, &second.piece] {
        assert_eq!(piece.read(5, 10).unwrap(), bytes.slice(5..15));
    }
    let to_the_end = second.piece.read(PIECE - 3, 10).unwrap();
    assert_eq!(to_the_end, bytes.slice(SIZE - 3..), "not beyond the piece");
}

#[test]
fn only_bytes_that_never_change_are_in_a_piece() {
    let (pieces, file) = (Pieces::default(), Arc::new(0));
    let short = Asked {
        committed_end: 1000,
        ..asked(900)
    };
    let mut answer = ask(&pieces, &file, &short);
    assert_eq!(numbers(&answer.unread), [0], "nothing is read behind it");
    answer.unread.remove(0).arrives(&Bytes::from(vec![1; SIZE]));
    assert_eq!(answer.piece.read(900, 500).unwrap().len(), 100);
    let uncommitted = Asked {
        position: 1000,
        ..short
    };
    assert!(pieces.ask(&file, &uncommitted).is_none());
    // The log has grown: what was read does not do for what came later.
    let grown = ask(&pieces, &file, &asked(1000));
    assert_eq!(numbers(&grown.unread)[0], 0);
}

#[test]
fn a_piece_that_failed_is_read_again() {
    let (pieces, file) = (Pieces::default(), Arc::new(0));
    let mut answer = ask(&pieces, &file, &asked(0));
    answer
        .unread
        .remove(0)
        .arrives(&Bytes::from_static(b"too few"));
    assert_eq!(answer.piece.read(0, 10), None);
    drop(answer);
    let again = ask(&pieces, &file, &asked(0));
    assert_eq!(numbers(&again.unread), [0, 1]);
}

#[test]
fn nobody_awaits_a_piece_whose_reader_has_left() {
    let (pieces, file) = (Pieces::default(), Arc::new(0));
    let Answer { piece, unread } = ask(&pieces, &file, &asked(0));
    assert!(unread.iter().all(Unread::is_awaited));
    drop(piece);
    assert!(!unread[0].is_awaited());
    assert!(unread[1].is_awaited(), "it is kept for who comes to it");
}

#[test]
fn pieces_and_those_read_ahead_are_bounded() {
    let pieces = Pieces::default();
    let files: Vec<_> = (0..100).map(Arc::new).collect();
    let (mut answers, mut most) = (Vec::new(), 0);
    for (file, position) in files.iter().flat_map(|file| [(file, 0), (file, PIECE)]) {
        answers.push(ask(&pieces, file, &asked(position)));
        let kept = pieces.lock();
        let ahead = kept.iter().filter(|kept| !kept.was_asked_for).count();
        assert!(kept.len() <= KEPT && ahead <= MOST_AHEAD);
        most = most.max(ahead);
    }
    assert_eq!(most, MOST_AHEAD);
    assert_eq!(pieces.lock().len(), KEPT);
}
