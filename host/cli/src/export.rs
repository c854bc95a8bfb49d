//! A ledger as C2SP tiles (tlog-tiles) in a folder: written, and verified without the home it came from.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use ambit_core::ledger::merkle::leaf_hash;
use ambit_core::ledger::verify::Stored;
use ambit_core::ledger::{
    Bad, Checkpoint, Frontier, Hash, LedgerError, Node, VerifierKey, tiles, verify as verify_ledger,
};
use ambit_runtime::store::Reader;

use crate::output::Failure;

/// Writes every file of the ledger up to its last checkpoint; the checkpoint comes last, so that an export cut short has
/// none. Returns how many files there are.
pub(crate) fn write(reader: &Reader, key: &VerifierKey, folder: &Path) -> Result<usize, Failure> {
    let mut files = 0;
    reader.export(key, |path, bytes| {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        files += 1;
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|e| Failure::internal(format!("{} cannot be written: {e}", path.display())))
    })?;
    Ok(files)
}

/// Checks an export against a key: every entry, the tree, the tiles and the checkpoint.
pub(crate) fn verify(folder: &Path, key: &VerifierKey) -> Result<Checkpoint, Failure> {
    let note = String::from_utf8(read(folder, "checkpoint")?)
        .map_err(|_| Failure::refused(format!("{}: the checkpoint is not text", folder.display())))?;
    let checkpoint = Checkpoint::parse_verified(&note, key).map_err(|e| refused(&e))?;
    let mut entries = Vec::new();
    let mut hashes = Vec::new();
    for tile in tiles::layout(checkpoint.size()) {
        let bytes = read(folder, &tile.path())?;
        match tile.content {
            tiles::Content::Entries => {
                let bundle = tiles::bundle_entries(&bytes).map_err(|e| refused(&e))?;
                if bundle.len() as u64 != tile.width {
                    return Err(Failure::refused(format!(
                        "{} does not hold {} entries",
                        tile.path(),
                        tile.width
                    )));
                }
                entries.extend(bundle.into_iter().map(<[u8]>::to_vec));
            }
            tiles::Content::Hashes { level } => hashes.push((tile, level, bytes)),
        }
    }
    let nodes = nodes(&entries);
    for (tile, level, bytes) in hashes {
        let expected = (0..tile.width).map(|at| nodes.get(&(level * tiles::HEIGHT, tile.index * tiles::WIDTH + at)));
        let same = bytes.len() as u64 == tile.width * Hash::LEN as u64
            && bytes
                .chunks(Hash::LEN)
                .zip(expected)
                .all(|(found, expected)| expected.is_some_and(|expected| expected.as_bytes().as_slice() == found));
        if !same {
            return Err(Failure::refused(format!(
                "{} does not hold the hashes of its entries",
                tile.path()
            )));
        }
    }
    let stored = entries
        .into_iter()
        .map(|bytes| Ok::<_, Bad>(Stored { bytes, leaf: None }));
    verify_ledger(stored, [note.as_str()], key).map_err(|bad| Failure::refused(bad.to_string()))?;
    Ok(checkpoint)
}

/// Every complete node of the tree over the entries, by level and index.
fn nodes(entries: &[Vec<u8>]) -> HashMap<(u8, u64), Hash> {
    let mut nodes = HashMap::new();
    let mut tree = Frontier::new();
    for entry in entries {
        tree.append(leaf_hash(entry), |Node { level, index }, hash| {
            nodes.insert((level, index), hash);
        });
    }
    nodes
}

fn read(folder: &Path, path: &str) -> Result<Vec<u8>, Failure> {
    let path = folder.join(path);
    fs::read(&path).map_err(|e| {
        Failure::refused(format!("{} cannot be read: {e}", path.display()))
            .advise("The export is not whole: export again with `ambit audit export DIR`.")
    })
}

fn refused(error: &LedgerError) -> Failure {
    Failure::refused(format!("the export does not verify: {error}"))
}
