//! The Merkle tree of RFC 6962 (section 2.1) over the ledger's entries: hashes, an incremental right edge for appends, inclusion and
//! consistency proofs made from stored nodes, and their verification, which needs nothing but the proof.
//!
//! A stored node is always the root of a *complete* subtree, so it is written once and never changes; whatever lies on the tree's ragged
//! right edge is computed from complete nodes when it is asked for.

use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use super::LedgerError;
use crate::guard;

/// A node of the tree: the SHA-256 of a leaf or of two nodes. Its text is standard base64, as in checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Hash::LEN]);

impl Hash {
    /// Bytes in a hash.
    pub const LEN: usize = 32;

    /// A hash as it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// A hash from a slice, where it has exactly 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A hash from its base64 text, where that is exactly how it would be printed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_slice(&BASE64.decode(text.as_bytes()).ok()?)
    }

    /// The 32 bytes, to store or to hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not the base64 of a 32-byte hash"))
    }
}

/// The hash of an entry's bytes as a leaf. The prefix keeps a leaf from ever being taken for a node.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(entry);
    Hash(hasher.finalize().into())
}

/// The hash of the node above `left` and `right`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x01]);
    hasher.update(left.0);
    hasher.update(right.0);
    Hash(hasher.finalize().into())
}

/// The root of a tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// Where a complete subtree stands: it spans the `2^level` leaves from `index * 2^level` on. Level 0 is the leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Height above the leaves, at most 63.
    pub level: u8,
    /// Position among the nodes of that level, from the left.
    pub index: u64,
}

/// The tree's right edge: all that appending needs, `O(log size)` hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the largest complete subtrees from left to right: one for each bit set in `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The edge of an empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a tree of `size` leaves, from its stored nodes: how a store starts again.
    ///
    /// # Errors
    /// What `read` fails with.
    pub fn restore<E>(size: u64, mut read: impl FnMut(Node) -> Result<Hash, E>) -> Result<Self, E> {
        let peaks = (0..64_u8)
            .rev()
            .filter(|level| (size >> level) & 1 == 1)
            .map(|level| {
                read(Node {
                    level,
                    index: (size >> level) ^ 1,
                })
            })
            .collect::<Result<_, E>>()?;
        Ok(Self { size, peaks })
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf and tells `completed` of every node that this finishes, the leaf first: each is told once in a tree's life, and is
    /// what proofs will read.
    pub fn append(&mut self, leaf: Hash, mut completed: impl FnMut(Node, Hash)) {
        let mut node = Node {
            level: 0,
            index: self.size,
        };
        let mut hash = leaf;
        completed(node, hash);
        // A set bit is a complete subtree to the left, of the same height as the one just finished.
        while node.index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = node_hash(&left, &hash);
            node = Node {
                level: node.level + 1,
                index: node.index >> 1,
            };
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The leaves `start .. start + len`, where the tree's own recursion put them together.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    len: u64,
}

impl Span {
    /// The whole of a tree.
    const fn all(size: u64) -> Self {
        Self { start: 0, len: size }
    }

    /// RFC 6962's split: the left part is the largest power of two smaller than the whole. None for a single leaf.
    fn split(self) -> Option<(Self, Self)> {
        let left = self.len.checked_sub(1)?.checked_ilog2().map(|bits| 1_u64 << bits)?;
        Some((
            Self {
                start: self.start,
                len: left,
            },
            Self {
                start: self.start + left,
                len: self.len - left,
            },
        ))
    }

    /// The stored node that spans exactly these leaves, if they are a complete subtree.
    fn node(self) -> Option<Node> {
        if !self.len.is_power_of_two() {
            return None;
        }
        let bits = self.len.trailing_zeros();
        Some(Node {
            level: u8::try_from(bits).ok()?,
            index: self.start >> bits,
        })
    }

    /// The root over these leaves.
    fn root<E>(self, read: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
        match (self.node(), self.split()) {
            (Some(node), _) => read(node),
            (None, Some((left, right))) => Ok(node_hash(&left.root(read)?, &right.root(read)?)),
            (None, None) => Ok(empty_root()),
        }
    }
}

/// The root of the first `size` leaves, from stored nodes.
///
/// # Errors
/// What `read` fails with.
pub fn root<E>(size: u64, mut read: impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    Span::all(size).root(&mut read)
}

/// The audit path of leaf `index` in the tree of the first `size` leaves: siblings from the leaf up.
///
/// # Errors
/// [`LedgerError::OutOfRange`] for a leaf that the tree does not have, and what `read` fails with.
pub fn inclusion<E: From<LedgerError>>(
    index: u64,
    size: u64,
    mut read: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if index >= size {
        return Err(LedgerError::OutOfRange {
            what: "entry",
            asked: index,
            size,
        }
        .into());
    }
    let mut path = Vec::new();
    let mut span = Span::all(size);
    while let Some((left, right)) = span.split() {
        let (inside, beside) = if index < right.start {
            (left, right)
        } else {
            (right, left)
        };
        path.push(beside.root(&mut read)?);
        span = inside;
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of the first `new` leaves only appended to that of the first `old`.
///
/// Empty when `old` is 0 (anything extends the empty tree) or equal to `new`.
///
/// # Errors
/// [`LedgerError::OutOfRange`] where `old` is larger than `new`, and what `read` fails with.
pub fn consistency<E: From<LedgerError>>(
    old: u64,
    new: u64,
    mut read: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if old > new {
        return Err(LedgerError::OutOfRange {
            what: "tree of size",
            asked: old,
            size: new,
        }
        .into());
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    // Walk down to the old tree's right edge; what stands beside the way is what the new tree is made of.
    let mut span = Span::all(new);
    let mut whole = true;
    while span.start + span.len != old
        && let Some((left, right)) = span.split()
    {
        let (inside, beside) = if old <= right.start {
            (left, right)
        } else {
            (right, left)
        };
        proof.push(beside.root(&mut read)?);
        whole &= inside.start == 0;
        span = inside;
    }
    // The verifier has the old root already, and needs the last subtree only where that is not the old tree as a whole.
    if !whole {
        proof.push(span.root(&mut read)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks an audit path: that `leaf` is at `index` in the tree of `size` leaves with this `root`. Needs no stored node.
///
/// # Errors
/// [`LedgerError::Proof`].
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, path: &[Hash]) -> Result<(), LedgerError> {
    let computed = inclusion_root(leaf, index, size, path);
    if !guard!("ledger.inclusion", computed == Some(*root)) {
        return Err(LedgerError::Proof(format!(
            "entry {index} is not in the ledger of size {size} with root {root}"
        )));
    }
    Ok(())
}

/// The root that an audit path leads to (RFC 9162, 2.1.3.2), or none where its length does not fit the tree.
fn inclusion_root(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    let mut last = size.checked_sub(1)?;
    let mut node = index;
    if node > last {
        return None;
    }
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // The right edge skips the levels on which it has no sibling.
            let skip = if node & 1 == 1 {
                0
            } else {
                node.trailing_zeros().min(63)
            };
            node >>= skip;
            last >>= skip;
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Checks that the tree (`new`, `new_root`) only appended to the tree (`old`, `old_root`). Needs no stored node.
///
/// # Errors
/// [`LedgerError::Proof`].
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), LedgerError> {
    let consistent = match old {
        0 => proof.is_empty() && *old_root == empty_root(),
        _ if old == new => proof.is_empty() && old_root == new_root,
        _ => consistency_roots(old, old_root, new, proof) == Some((*old_root, *new_root)),
    };
    if !guard!("ledger.consistency", consistent) {
        return Err(LedgerError::Proof(format!(
            "the ledger of size {new} with root {new_root} does not extend the one of size {old} with root {old_root}"
        )));
    }
    Ok(())
}

/// The two roots that a consistency proof leads to (RFC 9162, 2.1.4.2), or none where its length does not fit the trees.
fn consistency_roots(old: u64, old_root: &Hash, new: u64, proof: &[Hash]) -> Option<(Hash, Hash)> {
    if old >= new {
        return None;
    }
    let mut node = old.checked_sub(1)?;
    let mut last = new.checked_sub(1)?;
    let skip = node.trailing_ones();
    node = node.checked_shr(skip)?;
    last = last.checked_shr(skip)?;
    let mut proof = proof.iter();
    // An old tree that is a complete subtree is where the walk begins; the verifier has it already.
    let seed = if old.is_power_of_two() { old_root } else { proof.next()? };
    let (mut to_old, mut to_new) = (*seed, *seed);
    for hash in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            to_old = node_hash(hash, &to_old);
            to_new = node_hash(hash, &to_new);
            let skip = if node & 1 == 1 {
                0
            } else {
                node.trailing_zeros().min(63)
            };
            node >>= skip;
            last >>= skip;
        } else {
            to_new = node_hash(&to_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some((to_old, to_new))
}
