use ct_merkle::mem_backed_tree::MemoryBackedTree;
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use sha2::Sha256;

use super::*;
use crate::ledger::merkle::*;

/// The leaves that the test suites of Certificate Transparency implementations share.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Their roots, from the empty tree on.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hex(text: &str) -> Hash {
    Hash::from_slice(&HEXLOWER.decode(text.as_bytes()).unwrap()).unwrap()
}

/// A tree with the nodes that a store would keep.
#[derive(Default)]
struct Tree {
    edge: Frontier,
    nodes: HashMap<Node, Hash>,
}

impl Tree {
    fn of(leaves: &[Vec<u8>]) -> Self {
        let mut tree = Self::default();
        for leaf in leaves {
            tree.edge.append(leaf_hash(leaf), |node, hash| {
                assert_eq!(tree.nodes.insert(node, hash), None)
            });
        }
        tree
    }

    fn read(&self, node: Node) -> Result<Hash, LedgerError> {
        Ok(self.nodes[&node])
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        inclusion(index, size, |node| self.read(node)).unwrap()
    }

    fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        consistency(old, new, |node| self.read(node)).unwrap()
    }

    fn root(&self, size: u64) -> Hash {
        root(size, |node| self.read(node)).unwrap()
    }
}

fn numbered(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|n| n.to_string().into_bytes()).collect()
}

fn known() -> Tree {
    Tree::of(&LEAVES.map(|leaf| HEXLOWER.decode(leaf.as_bytes()).unwrap()))
}

#[test]
fn known_roots() {
    let tree = known();
    for (size, expected) in ROOTS.iter().enumerate() {
        assert_eq!(tree.root(size as u64), hex(expected), "size {size}");
    }
    assert_eq!(tree.edge.root(), hex(ROOTS[8]));
    assert_eq!(Frontier::new().root(), hex(ROOTS[0]));
}

#[test]
fn known_inclusion_proofs() {
    let tree = known();
    let check = |index, size, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|hash| hex(hash)).collect();
        assert_eq!(tree.inclusion(index, size), expected, "entry {index} of {size}");
    };
    check(0, 1, &[]);
    check(
        0,
        2,
        &["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"],
    );
    check(
        2,
        3,
        &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    );
    check(
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    );
    check(
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    );
}

#[test]
fn known_consistency_proofs() {
    let tree = known();
    let check = |old, new, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|hash| hex(hash)).collect();
        assert_eq!(tree.consistency(old, new), expected, "{old} to {new}");
    };
    check(1, 1, &[]);
    check(0, 5, &[]);
    check(
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    );
    check(
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    );
}

/// Every proof of every tree up to this size verifies, and no neighbour of it does.
#[test]
fn all_small_trees() {
    const MOST: u64 = 34;
    let tree = Tree::of(&numbered(MOST));
    for size in 1..=MOST {
        let root = tree.root(size);
        for index in 0..size {
            let leaf = tree.nodes[&Node { level: 0, index }];
            let proof = tree.inclusion(index, size);
            verify_inclusion(&leaf, index, size, &root, &proof).unwrap();
            rejects_all(&proof, |proof| verify_inclusion(&leaf, index, size, &root, proof));
            for other in (0..=size).filter(|other| *other != index) {
                assert!(
                    verify_inclusion(&leaf, other, size, &root, &proof).is_err(),
                    "{index} as {other} of {size}"
                );
            }
            assert!(verify_inclusion(&root, index, size, &leaf, &proof).is_err() || size == 1);
        }
        for old in 0..=size {
            let (old_root, proof) = (tree.root(old), tree.consistency(old, size));
            verify_consistency(old, &old_root, size, &root, &proof).unwrap();
            rejects_all(&proof, |proof| verify_consistency(old, &old_root, size, &root, proof));
            let other = leaf_hash(b"another tree");
            assert!(
                verify_consistency(old, &other, size, &root, &proof).is_err(),
                "{old} to {size}"
            );
            assert!(
                verify_consistency(old, &old_root, size, &other, &proof).is_err() || old == 0,
                "{old} to {size}"
            );
        }
    }
}

/// A proof that lacks a hash, has one more, or has a bit wrong.
fn rejects_all(proof: &[Hash], verify: impl Fn(&[Hash]) -> Result<(), LedgerError>) {
    let rejects = |proof: &[Hash]| assert!(verify(proof).is_err(), "{proof:?}");
    for at in 0..proof.len() {
        let mut wrong = proof.to_vec();
        let mut bytes = *wrong[at].as_bytes();
        bytes[at % 32] ^= 1 << (at % 8);
        wrong[at] = Hash::from_bytes(bytes);
        rejects(&wrong);
        let mut short = proof.to_vec();
        short.remove(at);
        rejects(&short);
    }
    let mut long = proof.to_vec();
    long.push(leaf_hash(b"more"));
    rejects(&long);
    long.rotate_right(1);
    rejects(&long);
}

#[test]
fn hostile_sizes_end() {
    let hash = leaf_hash(b"x");
    let many = vec![hash; 200];
    for index in [0, 1, u64::MAX - 1, u64::MAX, 1 << 63] {
        for size in [0, 1, 1 << 63, u64::MAX] {
            for proof in [&many[..], &many[..64], &many[..1], &[]] {
                let sole = index == 0 && size == 1 && proof.is_empty();
                assert_eq!(verify_inclusion(&hash, index, size, &hash, proof).is_ok(), sole);
                let same = index == size && index > 0 && proof.is_empty();
                assert_eq!(verify_consistency(index, &hash, size, &hash, proof).is_ok(), same);
            }
        }
    }
    assert!(inclusion(5, 5, |_| Ok::<_, LedgerError>(hash)).is_err());
    assert!(consistency(6, 5, |_| Ok::<_, LedgerError>(hash)).is_err());
}

proptest! {
    #[test]
    fn as_another_implementation(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..300), at in any::<prop::sample::Index>()) {
        let ours = Tree::of(&leaves);
        let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        leaves.iter().for_each(|leaf| theirs.push(leaf.clone()));
        let size = leaves.len();
        prop_assert_eq!(ours.edge.root().as_bytes().to_vec(), theirs.root().as_bytes().to_vec());
        prop_assert_eq!(ours.root(size as u64), ours.edge.root());

        let index = at.index(size);
        let flat = |proof: Vec<Hash>| proof.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>();
        prop_assert_eq!(flat(ours.inclusion(index as u64, size as u64)), theirs.prove_inclusion(index).as_bytes().to_vec());

        let old = index + 1;
        prop_assert_eq!(
            flat(ours.consistency(old as u64, size as u64)),
            theirs.prove_consistency(size - old).as_bytes().to_vec()
        );

        let restored = Frontier::restore(old as u64, |node| ours.read(node)).unwrap();
        prop_assert_eq!(restored, Tree::of(&leaves[..old]).edge);
    }
}

#[test]
fn a_hash_has_one_text() {
    let hash = leaf_hash(b"x");
    assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
    let text = hash.to_string();
    for wrong in [
        text.trim_end_matches('=').to_owned(),
        format!("{text}="),
        format!("{text}\n"),
        String::new(),
    ] {
        assert_eq!(Hash::parse(&wrong), None, "{wrong:?}");
    }
}
