//! The layout of c2sp.org/tlog-tiles: a ledger as immutable files that any transparency-log client can read.
//!
//! A tile holds up to 256 hashes of one level; level `l` of tiles is level `8 * l` of the tree. Bundles hold the entries themselves, each
//! behind its length in two bytes.

use super::merkle::{Hash, Node, node_hash};
use super::{LedgerError, MAX_ENTRY};

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Levels of the tree that one tile spans.
pub const HEIGHT: u8 = 8;

/// Which file: a tile of hashes at a level, or a bundle of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// Hashes of the tree's level `8 * level`.
    Hashes {
        /// The tile's level.
        level: u8,
    },
    /// Entries.
    Entries,
}

/// One file of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub content: Content,
    /// Position among the files of its kind and level, from the left.
    pub index: u64,
    /// How many hashes or entries it holds: 256, or fewer on the right edge.
    pub width: u64,
}

impl Tile {
    /// The file's path below the export's folder: `tile/<level>/<index>`, `tile/entries/<index>`, with `.p/<width>` where it is partial.
    #[must_use]
    pub fn path(&self) -> String {
        let content = match self.content {
            Content::Hashes { level } => level.to_string(),
            Content::Entries => "entries".to_owned(),
        };
        let mut index = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            index = format!("x{:03}/{index}", rest % 1000);
            rest /= 1000;
        }
        let partial = if self.width == WIDTH {
            String::new()
        } else {
            format!(".p/{}", self.width)
        };
        format!("tile/{content}/{index}{partial}")
    }

    /// The file of this path, where it is exactly how [`Tile::path`] prints it.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix("tile/")?.split('/').peekable();
        let content = match parts.next()? {
            "entries" => Content::Entries,
            level => Content::Hashes {
                level: level.parse().ok().filter(|level| *level < 64 / HEIGHT)?,
            },
        };
        let (mut index, mut width) = (0_u64, WIDTH);
        while let Some(part) = parts.next() {
            let (digits, partial) = match part.strip_suffix(".p") {
                Some(digits) => (digits, true),
                None => (part, false),
            };
            let digits: u64 = digits.strip_prefix('x').unwrap_or(digits).parse().ok()?;
            index = index.checked_mul(1000)?.checked_add(digits)?;
            if partial {
                width = parts.next()?.parse().ok()?;
            }
        }
        let tile = Self { content, index, width };
        // One path for each file: no sign, no zeros that are not its own, nothing behind.
        ((1..=WIDTH).contains(&width) && tile.index < u64::MAX / WIDTH && tile.path() == path).then_some(tile)
    }

    /// Whether a ledger of `size` entries has it, whole.
    #[must_use]
    pub fn is_within(&self, size: u64) -> bool {
        let count = match self.content {
            Content::Entries => size,
            Content::Hashes { level } => size >> (HEIGHT * level),
        };
        self.positions().end <= count
    }

    /// The positions it spans: of nodes in its level of the tree, or of entries.
    fn positions(&self) -> std::ops::Range<u64> {
        let start = self.index * WIDTH;
        start..start + self.width
    }
}

/// Every file of a ledger of `size` entries: the bundles, then the tiles of hashes from the leaves up. Partial files are those of this
/// size only.
pub fn layout(size: u64) -> impl Iterator<Item = Tile> {
    rows(size).flat_map(|(content, count)| row(content, count))
}

/// What a ledger of `size` entries has files of, and how many hashes or entries of it.
pub(super) fn rows(size: u64) -> impl Iterator<Item = (Content, u64)> {
    let levels = (0..64 / HEIGHT).map(move |level| (Content::Hashes { level }, size >> (HEIGHT * level)));
    std::iter::once((Content::Entries, size)).chain(levels.take_while(|(_, count)| *count > 0))
}

/// The files that hold `count` hashes or entries.
fn row(content: Content, count: u64) -> impl Iterator<Item = Tile> {
    let full = (0..count / WIDTH).map(move |index| Tile {
        content,
        index,
        width: WIDTH,
    });
    let partial = Tile {
        content,
        index: count / WIDTH,
        width: count % WIDTH,
    };
    full.chain((partial.width > 0).then_some(partial))
}

/// The whole export of a ledger of `size` entries as (path, bytes), one file at a time: bundles, tiles, and last the checkpoint, so that
/// an export that was cut short has none.
///
/// # Errors
/// Each item is what `node` or `entry` failed with, or [`LedgerError::TooLarge`] for an entry that was never legal.
pub fn export<E: From<LedgerError>>(
    size: u64,
    checkpoint: &str,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
    mut entry: impl FnMut(u64) -> Result<Vec<u8>, E>,
) -> impl Iterator<Item = Result<(String, Vec<u8>), E>> {
    let last = ("checkpoint".to_owned(), checkpoint.as_bytes().to_vec());
    layout(size)
        .map(move |tile| Ok((tile.path(), file(tile, &mut node, &mut entry)?)))
        .chain(std::iter::once(Ok(last)))
}

/// The bytes of one file.
///
/// # Errors
/// What `node` or `entry` failed with, or [`LedgerError::TooLarge`] for an entry that was never legal.
pub fn file<E: From<LedgerError>>(
    tile: Tile,
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
    entry: &mut impl FnMut(u64) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let mut bytes = Vec::new();
    for position in tile.positions() {
        match tile.content {
            Content::Hashes { level } => {
                bytes.extend_from_slice(
                    node(Node {
                        level: level * HEIGHT,
                        index: position,
                    })?
                    .as_bytes(),
                );
            }
            Content::Entries => put_entry(&mut bytes, &entry(position)?)?,
        }
    }
    Ok(bytes)
}

fn put_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), LedgerError> {
    let too_large = LedgerError::TooLarge { bytes: entry.len() };
    let length = u16::try_from(entry.len()).map_err(|_| too_large)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, as an export is read back.
///
/// # Errors
/// [`LedgerError::Entry`] where the bundle is cut, or holds more than a bundle does.
pub fn bundle_entries(mut bundle: &[u8]) -> Result<Vec<&[u8]>, LedgerError> {
    const {
        assert!(
            MAX_ENTRY == u16::MAX as usize,
            "an entry's length has two bytes in a bundle"
        )
    };
    let cut = || LedgerError::Entry("a bundle of entries is cut".to_owned());
    let mut entries = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (entry, rest) = rest
            .split_at_checked(u16::from_be_bytes(*length).into())
            .ok_or_else(cut)?;
        entries.push(entry);
        bundle = rest;
    }
    if !bundle.is_empty() || entries.len() as u64 > WIDTH {
        return Err(cut());
    }
    Ok(entries)
}

/// Any complete node, from at most 256 hashes of the nearest level below that tiles have: what makes these levels enough to store. `read`
/// is asked for a level of the tree (a multiple of 8) and a range of its nodes, which is never wider than a tile and never crosses two.
///
/// # Errors
/// What `read` fails with, and [`LedgerError::OutOfRange`] where it gives another number of hashes.
pub fn node_of<E: From<LedgerError>>(
    node: Node,
    read: impl FnOnce(u8, std::ops::Range<u64>) -> Result<Vec<Hash>, E>,
) -> Result<Hash, E> {
    let above = node.level % HEIGHT;
    let first = node.index << above;
    let mut row = read(node.level - above, first..first + (1 << above))?;
    let incomplete = LedgerError::OutOfRange {
        what: "node",
        asked: node.index,
        size: row.len() as u64,
    };
    if row.len() != 1 << above {
        return Err(incomplete.into());
    }
    while row.len() > 1 {
        row = row
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[left, right]| node_hash(left, right))
            .collect();
    }
    row.first().copied().ok_or_else(|| incomplete.into())
}
