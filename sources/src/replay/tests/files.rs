//! The forms that files have, and how they end.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::packets::*;
use super::*;

fn talk() -> Talk {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", [1, 1], START_NS + 123_456_789);
    talk.open().exchange(1, 1_000).exchange(2, 1_000).close();
    talk
}

/// Both formats in both byte orders give the same rows, with the time as exact as the file has it.
#[test]
fn formats() {
    let packets = talk().packets;
    let expected = replay(&pcap_as(true, 1, 1, usize::MAX, &packets)).rows;
    assert_eq!(expected.len(), 2);
    assert_eq!(expected[0].int("time_") % 1_000, 789);
    assert_eq!(replay(&pcap_as(false, 1, 1, usize::MAX, &packets)).rows, expected);
    for is_little in [true, false] {
        assert_eq!(replay(&pcapng(is_little, 1, &packets)).rows, expected);
        let rough = replay(&pcap_as(is_little, 1_000, 1, usize::MAX, &packets)).rows;
        assert_eq!(rough[0].int("time_"), expected[0].int("time_") / 1_000 * 1_000);
    }
    // Two sections in one file, in two byte orders.
    let both = [pcapng(true, 1, &packets[..4]), pcapng(false, 1, &packets[4..])].concat();
    assert_eq!(replay(&both).rows, expected);
}

/// Within gzip it is the same capture, also in several parts; cut or broken gzip gives what is before.
#[test]
fn gzip() {
    let packets = talk().packets;
    let file = pcap(1, &packets);
    let expected = replay(&file).rows;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture.pcap.gz");
    let zipped = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let run = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let mut replay = Replay::open(&path, ReplayConfig::default())?;
        let mut batches = Vec::new();
        let ending = replay.run(&mut |table, batch| {
            batches.push((table, batch));
            Ok::<(), ReplayError>(())
        })?;
        Ok::<_, ReplayError>((rows_of(&batches), ending))
    };
    let whole = zipped(&file);
    assert_eq!(run(&whole).unwrap(), (expected.clone(), Ending::Whole));
    let parts = [zipped(&file[..100]), zipped(&file[100..])].concat();
    assert_eq!(run(&parts).unwrap(), (expected.clone(), Ending::Whole));
    let (rows, ending) = run(&whole[..whole.len() - 9]).unwrap();
    assert!(matches!(ending, Ending::Whole | Ending::Truncated { .. }), "{ending:?}");
    assert!(rows.len() <= expected.len());
    let mut broken = whole.clone();
    let at = broken.len() - 6;
    broken[at] ^= 0x55;
    let (rows, ending) = run(&broken).unwrap();
    assert_eq!(rows, expected);
    assert!(matches!(ending, Ending::Damaged { .. }), "{ending:?}");
    for (bytes, why) in [
        (zipped(b"this is no capture"), "gzip"),
        (vec![0x1f, 0x8b, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], "gzip"),
        (vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0], "zstd"),
        (b"snoop\0\0\0\0\0\0\x02".to_vec(), "snoop"),
        (b"text".to_vec(), "neither"),
    ] {
        match run(&bytes) {
            Err(error @ ReplayError::NotACapture { .. }) => {
                assert!(error.to_string().contains(why), "{error}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
}

/// A resolution in powers of two, an offset in seconds, and simple packets, which have no time.
#[test]
fn times_of_interfaces() {
    let packet = &talk().packets[0].1;
    let word = |value: u32| value.to_le_bytes();
    let option = |code: u16, value: &[u8]| {
        let mut option = [code.to_le_bytes(), (value.len() as u16).to_le_bytes()].concat();
        option.extend(value);
        option.resize(option.len().next_multiple_of(4), 0);
        option
    };
    let section = [&word(0x1a2b_3c4d)[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    for (resolution, units, expected) in [
        (0x8a_u8, 1_536_u64, 101_500_000_000_i64),
        (3, 1_500, 101_500_000_000),
        (0, 7, 107_000_000_000),
        // Nothing that 64 bits can hold.
        (127, 7, 100_000_000_000),
        (0xff, 7, 100_000_000_000),
    ] {
        let options = [option(9, &[resolution]), option(14, &100_i64.to_le_bytes())].concat();
        let interface = [&[1, 0, 0, 0][..], &word(0), &options].concat();
        let head =
            [0, (units >> 32) as u32, units as u32, packet.len() as u32, packet.len() as u32];
        let head: Vec<u8> = head.into_iter().flat_map(word).collect();
        let simple = [&word(packet.len() as u32)[..], packet].concat();
        let file = [
            block(true, 0x0a0d_0d0a, &section),
            block(true, 1, &interface),
            block(true, 6, &[&head[..], packet].concat()),
            block(true, 3, &simple),
        ];
        let mut replay = opened(&file.concat(), ReplayConfig::default()).unwrap();
        for _ in 0..2 {
            assert_eq!(replay.next_time_unix_ns().unwrap(), Some(expected), "{resolution}");
            assert!(replay.step().unwrap());
        }
        assert_eq!(replay.next_time_unix_ns().unwrap(), None);
    }
}

/// A file that ends within a packet gives what is before, and says so; one that is none is refused.
#[test]
fn ends() {
    let packets = talk().packets;
    for file in [pcap(1, &packets), pcapng(true, 1, &packets)] {
        let whole = replay(&file);
        assert_eq!((whole.rows.len(), whole.ending), (2, Ending::Whole));
        for cut in 1..file.len() {
            let cut = &file[..cut];
            let Some(mut replay) = opened(cut, ReplayConfig::default()) else {
                assert!(cut.len() < 28, "{} bytes", cut.len());
                continue;
            };
            while replay.step().unwrap() {}
            let ending = replay.finish();
            assert!(matches!(ending, Ending::Whole | Ending::Truncated { .. }), "{ending:?}");
        }
        let cut = replay(&file[..file.len() - 40]);
        assert_eq!(cut.rows.len(), 2);
        assert!(matches!(cut.ending, Ending::Truncated { .. }));
    }
    for other in
        [&b""[..], b"\x00", b"hello, this is a text and not a capture", b"PAR1PAR1PAR1PAR1"]
    {
        assert!(opened(other, ReplayConfig::default()).is_none());
    }
    let missing = Replay::open(Path::new("/nonexistent"), ReplayConfig::default());
    assert!(matches!(missing.err(), Some(ReplayError::Read { .. })));
    let directory = Replay::open(Path::new("/"), ReplayConfig::default());
    assert!(matches!(directory.err(), Some(ReplayError::NotACapture { .. })));
}
