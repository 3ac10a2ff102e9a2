use super::*;
use crate::testing::{batch, pool};
use crate::{ChecksumError, Pool, TxFlags, TxOffload};

fn filled(pool: &Pool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.extend_from_slice(bytes).unwrap();
    mbuf
}

#[test]
fn a_fresh_mbuf_is_empty_behind_the_headroom_whatever_it_was_before() {
    let pool = pool(1, 2176, 0, 0);
    for _ in 0..2 {
        let mut mbuf = pool.alloc().unwrap();
        assert_eq!(
            (mbuf.data_len(), mbuf.packet_len(), mbuf.segments()),
            (0, 0, 1)
        );
        assert_eq!(
            (mbuf.headroom(), mbuf.tailroom(), mbuf.port()),
            (HEADROOM, 2048, u16::MAX)
        );
        assert_eq!(mbuf.hash(), None);
        assert_eq!(mbuf.tx_word().bits(), 0);
        assert!(mbuf.is_simple());
        mbuf.extend_from_slice(b"used").unwrap();
        mbuf.prepend(3).unwrap();
        mbuf.set_port(7);
        mbuf.set_tx_offload(TxOffload {
            flags: TxFlags::IPV4,
            ..TxOffload::default()
        })
        .unwrap();
    }
}

#[test]
fn both_ends_of_the_data_move_and_stop_at_the_ends_of_the_buffer() {
    let pool = pool(1, 2176, 0, 0);
    let mut mbuf = filled(&pool, b"payload");
    mbuf.prepend(4).unwrap().copy_from_slice(b"head");
    mbuf.append(4).unwrap().copy_from_slice(b"tail");
    assert_eq!(mbuf.data(), b"headpayloadtail");
    mbuf.adj(2).unwrap();
    mbuf.trim(3).unwrap();
    assert_eq!(mbuf.data(), b"adpayloadt");
    assert_eq!(mbuf.packet_len(), 10);
    mbuf.data_mut().unwrap()[0] = b'A';
    assert_eq!(mbuf.to_vec(), b"Adpayloadt");

    let (headroom, tailroom) = (mbuf.headroom(), mbuf.tailroom());
    assert_eq!(headroom + 10 + tailroom, 2176);
    assert_eq!(
        mbuf.prepend(headroom + 1).unwrap_err(),
        MbufError::Headroom {
            wanted: headroom + 1,
            headroom
        }
    );
    assert_eq!(
        mbuf.append(tailroom + 1).unwrap_err(),
        MbufError::Tailroom {
            wanted: tailroom + 1,
            tailroom
        }
    );
    assert_eq!(
        mbuf.adj(11).unwrap_err(),
        MbufError::TooShort {
            wanted: 11,
            len: 10
        }
    );
    assert_eq!(
        mbuf.trim(usize::MAX).unwrap_err(),
        MbufError::TooShort {
            wanted: usize::MAX,
            len: 10
        }
    );
    assert_eq!(mbuf.data(), b"Adpayloadt");
    mbuf.prepend(headroom).unwrap();
    mbuf.append(tailroom).unwrap();
    assert_eq!(
        (mbuf.data_len(), mbuf.headroom(), mbuf.tailroom()),
        (2176, 0, 0)
    );
    mbuf.adj(2176).unwrap();
    assert_eq!(
        (mbuf.data_len(), mbuf.headroom(), mbuf.tailroom()),
        (0, 2176, 0)
    );
}

#[test]
fn a_chain_is_one_packet_until_it_is_taken_apart() {
    let pool = pool(4, 192, 0, 0);
    let mut mbuf = filled(&pool, b"one");
    mbuf.chain(filled(&pool, b"two")).unwrap();
    mbuf.chain(filled(&pool, b"three")).unwrap();
    assert_eq!(
        (mbuf.segments(), mbuf.data_len(), mbuf.packet_len()),
        (3, 3, 11)
    );
    assert!(!mbuf.is_simple());
    assert_eq!(mbuf.to_vec(), b"onetwothree");
    assert_eq!(mbuf.tailroom(), 64 - 5);
    mbuf.extend_from_slice(b"!").unwrap();
    mbuf.trim(2).unwrap();
    mbuf.prepend(1).unwrap()[0] = b'>';
    assert_eq!(mbuf.to_vec(), b">onetwothre");
    assert_eq!(mbuf.trim(5), Err(MbufError::TooShort { wanted: 5, len: 4 }));

    let mut tail = mbuf.unchain().unwrap();
    assert_eq!(
        (mbuf.segments(), mbuf.packet_len(), mbuf.data()),
        (1, 4, &b">one"[..])
    );
    assert_eq!((tail.segments(), tail.packet_len()), (2, 7));
    assert!(mbuf.unchain().is_none());
    tail.chain(mbuf).unwrap();
    assert_eq!(tail.to_vec(), b"twothre>one");
    assert_eq!(pool.available(), 1);
    drop(tail);
    assert_eq!(pool.available(), 4);
}

#[test]
fn the_longest_chain_is_dropped_without_recursion_and_one_more_is_refused() {
    let pool = pool(65536, 129, 0, 0);
    let mut all = batch_of_all(&pool);
    // From the end, because appending walks to it.
    let spare = all.pop().unwrap();
    let mut mbuf = all.pop().unwrap();
    while let Some(mut first) = all.pop() {
        first.chain(mbuf).unwrap();
        mbuf = first;
    }
    assert_eq!((mbuf.segments(), mbuf.packet_len()), (65535, 65535));
    let (spare, error) = mbuf.chain(spare).unwrap_err();
    assert_eq!(error, MbufError::TooManySegments { segments: 65536 });
    assert_eq!(pool.available(), 0);
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| drop(mbuf))
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(pool.available(), 65535);
    drop(spare);
}

fn batch_of_all(pool: &Pool) -> Vec<Mbuf> {
    std::iter::from_fn(|| {
        let mut mbuf = pool.alloc()?;
        mbuf.extend_from_slice(&[1]).unwrap();
        Some(mbuf)
    })
    .collect()
}

#[test]
fn a_clone_shares_the_data_read_only_and_has_metadata_of_its_own() {
    let (data, lines) = (pool(2, 2176, 0, 0), pool(1, 256, 0, 0));
    let mut mbuf = filled(&data, b"shared bytes");
    mbuf.set_port(3);
    let mut clone = mbuf.clone_shared(&lines).unwrap();
    assert_eq!(clone.data().as_ptr(), mbuf.data().as_ptr());
    assert_eq!((clone.port(), clone.packet_len()), (3, 12));
    assert_eq!(clone.buffer_pool(), data.id());
    assert_eq!((data.in_use(), lines.in_use()), (1, 1));
    assert!(!mbuf.is_simple() && !clone.is_simple());
    for shared in [&mut mbuf, &mut clone] {
        assert!(shared.is_shared());
        assert!(shared.data_mut().is_none());
        assert_eq!(shared.prepend(1).unwrap_err(), MbufError::Shared);
        assert_eq!(shared.append(1).unwrap_err(), MbufError::Shared);
        assert!(shared.iter_mut().all(|segment| segment.is_none()));
        let udp = TxFlags::IPV4 | TxFlags::UDP_CHECKSUM;
        shared
            .set_tx_offload(TxOffload {
                flags: udp,
                ..TxOffload::default()
            })
            .unwrap();
        assert_eq!(shared.prepare_checksums(), Err(ChecksumError::Shared));
    }
    clone.adj(7).unwrap();
    mbuf.trim(6).unwrap();
    assert_eq!((clone.data(), mbuf.data()), (&b"bytes"[..], &b"shared"[..]));

    drop(clone);
    assert_eq!((data.in_use(), lines.in_use()), (1, 0));
    assert!(mbuf.is_simple());
    mbuf.extend_from_slice(b" no more").unwrap();
    assert_eq!(mbuf.data(), b"shared no more");
}

#[test]
fn the_buffer_goes_home_with_the_last_of_original_and_clones() {
    let (data, lines) = (pool(1, 2176, 0, 0), pool(2, 256, 0, 0));
    let mut mbuf = filled(&data, b"bytes");
    let mut first = mbuf.clone_shared(&lines).unwrap();
    drop(mbuf);
    let mut second = first.clone_shared(&lines).unwrap();
    assert_eq!((data.available(), lines.available()), (0, 0));
    drop(first);
    assert_eq!((data.available(), lines.available()), (0, 1));
    // The only one left may write again.
    assert!(!second.is_shared());
    second.prepend(4).unwrap().copy_from_slice(b"more");
    assert_eq!(second.data(), b"morebytes");
    assert_eq!(
        second.headroom() + second.data_len() + second.tailroom(),
        2176
    );
    drop(second);
    assert_eq!((data.available(), lines.available()), (1, 2));
    // The line that was a clone's has its own buffer again, and all of it.
    let mut all = [lines.alloc().unwrap(), lines.alloc().unwrap()];
    for mbuf in &mut all {
        assert_eq!((mbuf.buffer_pool(), mbuf.tailroom()), (lines.id(), 128));
        assert!(mbuf.is_simple());
        mbuf.append(128).unwrap().fill(0xEE);
    }
    let mbuf = data.alloc().unwrap();
    assert!(mbuf.is_simple());
    assert_eq!(mbuf.tailroom(), 2048);
}

#[test]
fn a_chain_is_cloned_segment_by_segment_or_not_at_all() {
    let (data, lines) = (pool(4, 192, 0, 0), pool(3, 192, 0, 0));
    let mut mbuf = filled(&data, b"one");
    mbuf.chain(filled(&data, b"two")).unwrap();
    let clone = mbuf.clone_shared(&lines).unwrap();
    assert_eq!((clone.segments(), clone.packet_len()), (2, 6));
    assert_eq!(clone.to_vec(), b"onetwo");
    assert_eq!(
        mbuf.clone_shared(&lines).unwrap_err(),
        MbufError::PoolExhausted
    );
    assert_eq!(lines.available(), 1);
    drop(mbuf);
    assert_eq!((data.available(), clone.to_vec()), (2, b"onetwo".to_vec()));
    drop(clone);
    assert_eq!((data.available(), lines.available()), (4, 3));
}

#[test]
fn a_segment_and_its_clone_in_one_chain_are_never_both_writable() {
    let pool = pool(2, 192, 0, 0);
    let mut mbuf = filled(&pool, b"twice");
    let clone = mbuf.clone_shared(&pool).unwrap();
    mbuf.chain(clone).unwrap();
    assert_eq!(mbuf.to_vec(), b"twicetwice");
    assert!(mbuf.iter_mut().all(|segment| segment.is_none()));
    drop(mbuf);
    assert_eq!(pool.available(), 2);
}

#[test]
fn a_packet_is_cut_without_copying_and_joined_again() {
    let (data, views) = (pool(2, 192, 0, 0), pool(1, 192, 0, 0));
    let mut mbuf = filled(&data, b"abcdef");
    mbuf.chain(filled(&data, b"gh")).unwrap();
    mbuf.set_port(3);
    mbuf.set_app_word(9);
    let first = mbuf.data().as_ptr();

    let tail = mbuf.split_off(4, &views).unwrap();
    assert_eq!((mbuf.data(), tail.data()), (&b"abcd"[..], &b"ef"[..]));
    assert_eq!(tail.data().as_ptr(), first.wrapping_add(4));
    assert_eq!((mbuf.segments(), mbuf.packet_len()), (1, 4));
    assert_eq!((tail.segments(), tail.packet_len()), (2, 4));
    assert_eq!((mbuf.port(), mbuf.app_word()), (3, 9));
    assert_eq!((tail.port(), tail.app_word()), (u16::MAX, 0));
    assert!(mbuf.data_mut().is_none());
    assert_eq!((tail.buffer_pool(), views.available()), (data.id(), 0));

    // Between two segments nothing is shared, and no buffer is needed.
    mbuf.chain(tail).unwrap();
    let tail = mbuf.split_off(6, &views).unwrap();
    assert_eq!((mbuf.segments(), mbuf.to_vec()), (2, b"abcdef".to_vec()));
    assert_eq!((tail.segments(), tail.data()), (1, &b"gh"[..]));
    assert!(tail.is_simple());

    assert_eq!(
        mbuf.split_off(3, &views).unwrap_err(),
        MbufError::PoolExhausted
    );
    let error = MbufError::TooShort { wanted: 7, len: 6 };
    assert_eq!(mbuf.split_off(7, &views).unwrap_err(), error);
    mbuf.chain(tail).unwrap();
    assert_eq!((mbuf.segments(), mbuf.to_vec()), (3, b"abcdefgh".to_vec()));
    drop(mbuf);
    assert_eq!((data.available(), views.available()), (2, 1));
}

#[test]
fn a_cut_at_either_end_leaves_an_empty_packet() {
    let pool = pool(3, 192, 0, 0);
    let mut mbuf = filled(&pool, b"ab");
    let end = mbuf.split_off(2, &pool).unwrap();
    let all = mbuf.split_off(0, &pool).unwrap();
    assert_eq!(
        (end.data(), mbuf.data(), all.data()),
        (&b""[..], &b""[..], &b"ab"[..])
    );
    drop((mbuf, end));
    assert!(!all.is_shared());
    assert_eq!(pool.in_use(), 2);
    drop(all);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn one_clone_too_many_is_refused_and_nothing_is_lost() {
    let pool = pool(65537, 129, 0, 0);
    let mut mbuf = filled(&pool, b"x");
    let mut clones = Vec::new();
    let error = loop {
        match mbuf.clone_shared(&pool) {
            Ok(clone) => clones.push(clone),
            Err(error) => break error,
        }
    };
    assert_eq!(error, MbufError::TooManyClones);
    assert_eq!(clones.len(), 65534);
    assert_eq!((pool.available(), mbuf.segments()), (2, 1));
    clones.pop();
    clones.push(mbuf.clone_shared(&pool).unwrap());
    drop(mbuf);
    drop(clones);
    assert_eq!(pool.available(), 65537);
}

#[test]
fn bytes_are_copied_out_across_segments_from_any_offset() {
    let pool = pool(3, 192, 0, 0);
    let mut mbuf = filled(&pool, b"abc");
    mbuf.chain(pool.alloc().unwrap()).unwrap();
    mbuf.chain(filled(&pool, b"defgh")).unwrap();
    let from = |offset, len| {
        let mut bytes = vec![0; len];
        let copied = mbuf.copy_to(offset, &mut bytes);
        bytes.truncate(copied);
        bytes
    };
    assert_eq!(from(0, 8), b"abcdefgh");
    assert_eq!(from(2, 3), b"cde");
    assert_eq!(from(3, 2), b"de");
    assert_eq!(from(6, 100), b"gh");
    assert_eq!(from(8, 1), b"");
    assert_eq!(from(100, 1), b"");
    assert_eq!(from(0, 0), b"");
}

#[test]
fn a_copy_is_its_own_and_takes_as_few_buffers_as_it_can() {
    let (small, large) = (pool(8, 192, 0, 0), pool(2, 2176, 0, 0));
    let bytes: Vec<u8> = (0..200).collect();
    let mut mbuf = filled(&large, &bytes);
    mbuf.set_port(5);
    let mut copy = mbuf.copy(&small).unwrap();
    assert_eq!((copy.segments(), copy.port()), (4, 5));
    assert_eq!(copy.to_vec(), bytes);
    assert!(!mbuf.is_shared());
    let back = copy.copy(&large).unwrap();
    assert_eq!((back.segments(), back.data()), (1, &bytes[..]));
    assert_eq!(
        copy.linearize(),
        Err(MbufError::Tailroom {
            wanted: 200 - 64,
            tailroom: 0
        })
    );
    assert_eq!(mbuf.copy(&large).unwrap_err(), MbufError::PoolExhausted);
    assert_eq!((large.available(), copy.segments()), (0, 4));
}

#[test]
fn linearizing_leaves_one_segment_with_all_bytes() {
    let pool = pool(3, 192, 0, 0);
    let mut mbuf = filled(&pool, b"abc");
    mbuf.chain(filled(&pool, b"def")).unwrap();
    mbuf.chain(filled(&pool, b"gh")).unwrap();
    mbuf.linearize().unwrap();
    assert_eq!((mbuf.segments(), mbuf.data()), (1, &b"abcdefgh"[..]));
    assert_eq!(pool.available(), 2);
    mbuf.linearize().unwrap();
}

#[test]
fn pulling_up_moves_what_is_missing_into_the_first_segment() {
    let (pool, small) = (pool(6, 192, 0, 0), pool(1, 130, 0, 0));
    let mut mbuf = filled(&pool, b"abc");
    let mut shared = filled(&pool, b"def");
    let clone = shared.clone_shared(&pool).unwrap();
    mbuf.chain(clone).unwrap();
    mbuf.chain(pool.alloc().unwrap()).unwrap();
    mbuf.chain(filled(&pool, b"ghi")).unwrap();
    let parts = |mbuf: &Mbuf| -> Vec<Vec<u8>> {
        mbuf.iter().map(|segment| segment.data().to_vec()).collect()
    };
    for len in [0, 3] {
        mbuf.pull_up(len).unwrap();
        assert_eq!(mbuf.segments(), 4);
    }
    mbuf.pull_up(4).unwrap();
    assert_eq!(parts(&mbuf), [&b"abcd"[..], b"ef", b"", b"ghi"]);
    assert_eq!(
        mbuf.pull_up(10),
        Err(MbufError::TooShort { wanted: 10, len: 9 })
    );
    mbuf.pull_up(6).unwrap();
    assert_eq!(parts(&mbuf), [&b"abcdef"[..], b"ghi"]);
    assert_eq!((mbuf.packet_len(), shared.data()), (9, &b"def"[..]));
    mbuf.pull_up(9).unwrap();
    assert_eq!((mbuf.segments(), pool.available()), (1, 4));

    let mut full = filled(&small, b"ab");
    full.chain(mbuf).unwrap();
    let tailroom = MbufError::Tailroom {
        wanted: 1,
        tailroom: 0,
    };
    assert_eq!(full.pull_up(3), Err(tailroom));
    let mut clone = shared.clone_shared(&pool).unwrap();
    clone.chain(full).unwrap();
    assert_eq!(clone.pull_up(5), Err(MbufError::Shared));
    assert_eq!(clone.packet_len(), 14);
}

#[test]
fn the_application_word_stays_and_a_clone_starts_with_none() {
    let pool = pool(2, 192, 0, 0);
    let mut mbuf = pool.alloc().unwrap();
    mbuf.set_app_word(0xFEED_F00D_DEAD_BEEF);
    mbuf.reset();
    assert_eq!(mbuf.app_word(), 0xFEED_F00D_DEAD_BEEF);
    assert_eq!(mbuf.clone_shared(&pool).unwrap().app_word(), 0);
}

#[test]
fn neighbours_in_a_batch_do_not_share_memory() {
    let pool = pool(64, 192, 0, 0);
    let mut batch = batch(&pool, 64);
    for (number, mbuf) in batch.iter_mut().enumerate() {
        mbuf.append(4).unwrap();
        mbuf.prepend(128).unwrap();
        mbuf.data_mut().unwrap().fill(number as u8);
        assert_eq!(mbuf.data_len(), 192);
    }
    for (number, mbuf) in batch.iter().enumerate() {
        assert!(mbuf.data().iter().all(|byte| *byte == number as u8));
    }
}

const _: () = {
    const fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<Mbuf>();
    send_and_sync::<SegmentRef<'static>>();
};
