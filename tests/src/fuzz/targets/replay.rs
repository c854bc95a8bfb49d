//! Bundles of one call, which anybody may hand to `ambit replay --from`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::sync::LazyLock;

use ambit_core::digest::Digest;
use ambit_core::ledger::bundle::{Bundle, Proven, Salted, commitment};
use ambit_core::ledger::merkle::inclusion;
use ambit_core::ledger::{Checkpoint, Entry, Frontier, Hash, LedgerError, Node, SignerKey, fuzz, story};
use data_encoding::BASE64;
use serde_json::Value;

use crate::fuzz::{Became, folder, run};

pub(super) const WORDS: &[&str] = &[
    "\"bundle\": 1",
    "\"call\": \"c_aaaaaaaaaaaaaaaaaaaaaaaaaa\"",
    "\"checkpoint\": ",
    "\"component\": ",
    "\"entries\": ",
    "\"entry\": ",
    "\"proof\": ",
    "\"values\": ",
    "\"salt\": ",
    "\"value\": ",
    "\"effect/0/request\": ",
    "\"result\": ",
    "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
    "AA==",
    "AB==",
    "[]",
    "{}",
    "null",
    "\\u0063",
    "  ",
    "\n",
    "\t",
    ",",
    "\"",
    "\\\\n",
    "\u{2014} stranger AAAAAAAAAA==\\n",
];

/// The component that is said to have run. Nothing here runs it.
const COMPONENT: &[u8] = b"\0asm a component, by its digest";
/// The salt of every value: bundles are opened by it, whatever it is.
const SALT: [u8; 32] = [7; 32];

/// Opens a file as it is, and once more as a bundle is written: else hardly any change would get past the look at its spelling.
pub(super) fn drive(bytes: &[u8]) -> Became {
    let text = String::from_utf8_lossy(bytes);
    let as_it_is = open(&text);
    let respelled = || open(&written(&text)?.to_json().map_err(|error| error.to_string())?);
    as_it_is.or_else(|why| respelled().map_err(|other| format!("{why}; {other}")))
}

/// What opens is what the ledger's key vouches for, to the byte.
fn open(text: &str) -> Became {
    let key = fuzz::key().expect("the ledger's key");
    let stranger = SignerKey::from_seed("ledger.example/home", &[8; 32]).expect("another key");
    assert!(
        Bundle::open(text, stranger.verifier()).is_err(),
        "believed without the key"
    );
    let opened = Bundle::open(text, key.verifier()).map_err(|error| error.to_string())?;
    let file = written(text).expect("what opens is written as a bundle is");
    assert_eq!(
        file.to_json().as_deref(),
        Ok(text),
        "what verifies is printed again as the same"
    );
    assert_eq!(opened.component, COMPONENT);
    assert_eq!(opened.entries, file.entries.len());
    assert!(
        file.entries
            .iter()
            .all(|proven| GENUINE.entries.contains(proven.entry.bytes()))
    );
    assert_eq!(opened.values.len(), file.values.len(), "no value is left out or added");
    for (name, value) in &opened.values {
        assert_eq!(
            GENUINE.values.get(&(opened.story.call.clone(), name.clone())),
            Some(value),
            "{name}"
        );
    }
    Ok(())
}

/// What is in a file, by another reader, whether or not any of it is believed.
fn written(text: &str) -> Result<Bundle, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let text = |value: &Value, what: &str| value[what].as_str().map(str::to_owned).ok_or(format!("no {what}"));
    let bytes = |value: &Value, what: &str| {
        let text = text(value, what)?;
        BASE64
            .decode(text.as_bytes())
            .map_err(|_| format!("{what} is not base64"))
    };
    let hash = |value: &Value| value.as_str().and_then(Hash::parse).ok_or("a hash is none");
    let entry = |value: &Value| {
        let proof = value["proof"].as_array().ok_or("no proof")?;
        Ok(Proven {
            entry: Entry::parse(text(value, "entry")?.as_bytes()).map_err(|error| error.to_string())?,
            proof: proof.iter().map(hash).collect::<Result<_, _>>()?,
        })
    };
    let value = |(name, value): (&String, &Value)| {
        let salt = bytes(value, "salt")?.try_into().map_err(|_| "a salt is none")?;
        let value = bytes(value, "value")?;
        Ok((name.clone(), Salted { salt, value }))
    };
    Ok(Bundle {
        call: text(&file, "call")?,
        checkpoint: text(&file, "checkpoint")?,
        component: bytes(&file, "component")?,
        entries: file["entries"]
            .as_array()
            .ok_or("no entries")?
            .iter()
            .map(entry)
            .collect::<Result<_, String>>()?,
        values: file["values"]
            .as_object()
            .ok_or("no values")?
            .iter()
            .map(value)
            .collect::<Result<_, String>>()?,
    })
}

/// A ledger with values and a component that are known, and its calls that are over, each as a bundle.
struct Genuine {
    entries: HashSet<Vec<u8>>,
    /// By call and name.
    values: HashMap<(String, String), Vec<u8>>,
    bundles: Vec<String>,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| Genuine::make().expect("the seeds of entries"));

pub(super) fn seeds() -> Vec<Vec<u8>> {
    GENUINE
        .bundles
        .iter()
        .map(|bundle| bundle.clone().into_bytes())
        .collect()
}

impl Genuine {
    /// Of the ledger that the seeds of entries are from: its entries commit to values that nobody has any more, so others take their place.
    fn make() -> Result<Genuine, LedgerError> {
        let files = run::files(&folder().join("corpus/entry")).expect("the seeds of entries");
        let read = |file: &_| fs::read_to_string(file).expect("a seed");
        let texts: Vec<String> = files.iter().map(read).collect();
        let mut known = Vec::new();
        let texts = with_values(texts, &mut known)?;
        let entries = parsed(&texts)?;
        let mut genuine = Genuine {
            entries: entries.iter().map(|entry| entry.bytes().to_vec()).collect(),
            values: HashMap::new(),
            bundles: Vec::new(),
        };
        let (mut frontier, mut nodes) = (Frontier::new(), HashMap::new());
        for entry in &entries {
            frontier.append(entry.leaf(), |node: Node, hash| {
                nodes.insert((node.level, node.index), hash);
            });
        }
        let size = frontier.size();
        let checkpoint = Checkpoint::sign(size, frontier.root(), &fuzz::key()?);
        for of_call in calls(&entries) {
            let story = story(&of_call)?;
            if !story.is_over() {
                continue;
            }
            let mut values = BTreeMap::new();
            for (name, committed) in story.commitments() {
                let value: &Vec<u8> = known
                    .iter()
                    .find(|value| commitment(&SALT, value) == committed)
                    .expect("it is known");
                genuine.values.insert((story.call.clone(), name.clone()), value.clone());
                values.insert(
                    name,
                    Salted {
                        salt: SALT,
                        value: value.clone(),
                    },
                );
            }
            let proven = of_call.into_iter().map(|entry| {
                let node = |node: Node| Ok::<_, LedgerError>(nodes[&(node.level, node.index)]);
                let proof = inclusion(entry.index(), size, node)?;
                Ok(Proven { entry, proof })
            });
            let bundle = Bundle {
                call: story.call.clone(),
                checkpoint: checkpoint.clone(),
                component: COMPONENT.to_vec(),
                entries: proven.collect::<Result<_, LedgerError>>()?,
                values,
            };
            genuine.bundles.push(bundle.to_json()?);
        }
        Ok(genuine)
    }
}

/// The entries with commitments to values that are known, in place of those that they have.
fn with_values(mut texts: Vec<String>, known: &mut Vec<Vec<u8>>) -> Result<Vec<String>, LedgerError> {
    let component = Digest::of(COMPONENT);
    for of_call in calls(&parsed(&texts)?) {
        let story = story(&of_call)?;
        let mut replaced: Vec<(Digest, Digest)> = story.tool.map(|tool| (tool, component)).into_iter().collect();
        for (name, committed) in story.commitments() {
            let value = format!("{{\"{name}\":1}}").into_bytes();
            replaced.push((committed, commitment(&SALT, &value)));
            known.push(value);
        }
        for text in &mut texts {
            for (old, new) in &replaced {
                *text = text.replace(&old.to_string(), &new.to_string());
            }
        }
    }
    Ok(texts)
}

fn parsed(texts: &[String]) -> Result<Vec<Entry>, LedgerError> {
    texts.iter().map(|text| Entry::parse(text.as_bytes())).collect()
}

/// The entries of each call, in order.
fn calls(entries: &[Entry]) -> Vec<Vec<Entry>> {
    let mut calls: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        if let Some(call) = entry.call() {
            calls.entry(call).or_default().push(entry.clone());
        }
    }
    calls.into_values().collect()
}
