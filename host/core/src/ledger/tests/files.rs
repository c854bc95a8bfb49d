use super::*;
use crate::ledger::tiles::*;

fn tile(content: Content, index: u64, width: u64) -> String {
    Tile { content, index, width }.path()
}

#[test]
fn paths_of_the_specification() {
    assert_eq!(
        tile(Content::Hashes { level: 0 }, 1_234_067, 256),
        "tile/0/x001/x234/067"
    );
    assert_eq!(
        tile(Content::Entries, 1_234_067, 255),
        "tile/entries/x001/x234/067.p/255"
    );
    assert_eq!(tile(Content::Hashes { level: 2 }, 0, 1), "tile/2/000.p/1");
    assert_eq!(tile(Content::Hashes { level: 1 }, 999, 256), "tile/1/999");
    assert_eq!(tile(Content::Hashes { level: 1 }, 1000, 256), "tile/1/x001/000");
}

#[test]
fn layout_of_the_specification() {
    let level = |size, level| -> Vec<String> {
        layout(size)
            .filter(|tile| tile.content == Content::Hashes { level })
            .map(|tile| tile.path())
            .collect()
    };
    // The specification's two examples.
    let lowest = level(70_000, 0);
    assert_eq!(
        (lowest.len(), lowest[272].as_str(), lowest[273].as_str()),
        (274, "tile/0/272", "tile/0/273.p/112")
    );
    assert_eq!(level(70_000, 1), ["tile/1/000", "tile/1/001.p/17"]);
    assert_eq!(level(70_000, 2), ["tile/2/000.p/1"]);
    assert_eq!(level(70_000, 3), [""; 0]);
    let paths = |size| layout(size).map(|tile| tile.path()).collect::<Vec<_>>();
    assert_eq!(paths(256), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(paths(0), [""; 0]);
    // The largest tree there can be has eight levels over its entries.
    let of = |size| rows(size).map(|(content, _)| content).collect::<Vec<_>>();
    assert_eq!(
        (of(u64::MAX).len(), of(u64::MAX >> 8).len(), of(1 << 56).len()),
        (9, 8, 9)
    );
}

/// An export holds every entry, and every node of the tree can be had from it.
#[test]
fn an_export_is_enough_to_prove_from() {
    const SIZE: u64 = 600;
    let mut log = Log::new();
    for n in 1..SIZE {
        log.push(EntryDraft::of_ledger(ConfigChanged {
            from: None,
            to: digest(&n.to_string()),
        }));
    }
    let note = log.notes.last().unwrap();
    let files: Vec<(String, Vec<u8>)> = export(
        SIZE,
        note,
        |node| log.node(node),
        |index| Ok::<_, LedgerError>(log.entries[index as usize].bytes().to_vec()),
    )
    .collect::<Result<_, _>>()
    .unwrap();
    assert_eq!(
        files.last().unwrap(),
        &("checkpoint".to_owned(), note.clone().into_bytes())
    );

    let files: HashMap<String, Vec<u8>> = files.into_iter().collect();
    let bundled: Vec<_> = layout(SIZE)
        .filter(|tile| tile.content == Content::Entries)
        .flat_map(|tile| bundle_entries(&files[&tile.path()]).unwrap())
        .collect();
    assert!(bundled.iter().copied().eq(log.entries.iter().map(Entry::bytes)));

    let from_files = |level: u8, range: std::ops::Range<u64>| -> Result<Vec<Hash>, LedgerError> {
        let width = ((SIZE >> level) - range.start / WIDTH * WIDTH).min(WIDTH);
        let path = tile(Content::Hashes { level: level / 8 }, range.start / WIDTH, width);
        let hashes = files[&path].as_chunks::<32>().0.iter().copied().map(Hash::from_bytes);
        Ok(hashes
            .skip((range.start % WIDTH) as usize)
            .take((range.end - range.start) as usize)
            .collect())
    };
    for (node, hash) in &log.nodes {
        assert_eq!(node_of(*node, from_files).unwrap(), *hash, "{node:?}");
    }
    let short = |level, range: std::ops::Range<u64>| from_files(level, range.start..range.end - 1);
    assert!(node_of(Node { level: 5, index: 2 }, short).is_err());
}

#[test]
fn bundles_that_are_cut() {
    let bundle = [0, 1, b'a', 0, 0, 0, 2, b'b', b'c'];
    assert_eq!(bundle_entries(&bundle).unwrap(), [&b"a"[..], b"", b"bc"]);
    for end in [1, 2, 4, 6, 7, 8] {
        assert!(bundle_entries(&bundle[..end]).is_err(), "{end}");
    }
    assert!(bundle_entries(&[0; 512]).is_ok());
    assert!(bundle_entries(&[0; 514]).is_err(), "more than a bundle holds");
}

proptest::proptest! {
    #[test]
    fn a_file_has_one_path(level in 0..8_u8, entries: bool, index in 0..5_000_000_u64, width in 1..=256_u64) {
        let content = if entries { Content::Entries } else { Content::Hashes { level } };
        let tile = Tile { content, index, width };
        proptest::prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
    }
}

#[test]
fn what_is_no_path_is_no_file() {
    for none in [
        "",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/8/000",
        "tile/00/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/000/",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p",
        "tile/0/+01",
        "tile/entries/-01",
        "tile/0/000.p/1/000",
        "tile/0/../0/000",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "checkpoint",
    ] {
        assert_eq!(Tile::parse(none), None, "{none}");
    }
    let tile = Tile::parse("tile/entries/x001/002.p/3").unwrap();
    assert_eq!((tile.index, tile.width), (1_002, 3));
    assert!(tile.is_within(1_002 * 256 + 3) && !tile.is_within(1_002 * 256 + 2));
}
