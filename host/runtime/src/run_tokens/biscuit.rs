//! Tokens of runs as Biscuits.
//!
//! The library checks the chain of signatures; what blocks say is read from how it prints them, by the reader of
//! [`ambit_core::identity::run_token`], and then held against the bytes that the same would be written with. So nothing of a block is left
//! over that was not read, whatever a printer leaves out or puts in.

use std::fmt;

use ambit_core::digest::Digest;
use ambit_core::guard;
use ambit_core::identity::run_token::{
    Attenuation, Authority, LONGEST, MOST_BLOCKS, Opened, PREFIX, malformed, unknown_block,
};
use ambit_core::identity::why::{Denied, Why};
use biscuit_auth::builder::BlockBuilder;
use biscuit_auth::format::schema::{self, public_key::Algorithm};
use biscuit_auth::{Biscuit, KeyPair, UnverifiedBiscuit, error};
use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::{RunTokens, Token, TokenError};

/// Tokens of runs under one key (Ed25519).
pub struct Biscuits {
    root: KeyPair,
}

impl Biscuits {
    /// Under the key of this seed.
    ///
    /// # Errors
    /// Never for a seed of this length, as far as the library is known.
    pub fn new(seed: &[u8; 32]) -> Result<Biscuits, TokenError> {
        Ok(Biscuits { root: key(seed)? })
    }
}

impl fmt::Debug for Biscuits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Biscuits(…)")
    }
}

impl RunTokens for Biscuits {
    fn mint(&self, authority: &Authority) -> Result<Token, TokenError> {
        let text = authority.to_text()?;
        let first = Biscuit::builder().code(text).map_err(failed)?;
        let next = random_key()?;
        let token = first
            .build_with_key_pair(&self.root, Default::default(), &next)
            .map_err(failed)?;
        written(&token.to_vec().map_err(failed)?)
    }

    fn open(&self, word: &str) -> Result<Opened, Denied> {
        let token = decoded(word)?;
        let token = token
            .verify(self.root.public())
            .map_err(|_| Denied::new(Why::Signature, "the run token is not one that this home's key signed"))?;
        let wire = token.container().to_proto();
        let external = wire.blocks.iter().any(|block| block.external_signature.is_some());
        if !guard!("token.third-party", !external) {
            return Err(Denied::new(
                Why::Claims,
                "the run token has a block that somebody else signed",
            ));
        }
        // A signature by any other algorithm that the library knows can be written in two ways: the id of its block would not be one.
        let ed25519 = |block: &schema::SignedBlock| block.next_key.algorithm == Algorithm::Ed25519 as i32;
        if !guard!(
            "token.algorithm",
            ed25519(&wire.authority) && wire.blocks.iter().all(ed25519)
        ) {
            return Err(Denied::new(
                Why::Algorithm,
                "the run token has a key of another kind than Ed25519",
            ));
        }
        // Whoever holds a token appends what they like: printing it may take no longer than reading it did.
        if !guard!("token.plain", wire.blocks.iter().all(|block| is_plain(&block.block))) {
            return Err(unknown_block());
        }
        let opened = read_blocks(
            wire.blocks.len(),
            |index| token.print_block_source(index),
            &token.revocation_identifiers(),
        )?;
        let ours = as_ours(&opened).map_err(|_| unknown_block())?;
        let same = ours.authority.block == wire.authority.block
            && ours.blocks.len() == wire.blocks.len()
            && ours
                .blocks
                .iter()
                .zip(&wire.blocks)
                .all(|(ours, theirs)| ours.block == theirs.block);
        if !guard!("token.vocabulary", same) {
            return Err(unknown_block());
        }
        Ok(opened)
    }

    fn narrow(word: &str, by: &Attenuation) -> Result<Token, TokenError> {
        let text = by.to_text()?;
        let token = decoded(word)?;
        if token.block_count() > MOST_BLOCKS {
            return Err(TokenError::Full(
                "the token was narrowed 16 times, and cannot be once more",
            ));
        }
        let block = BlockBuilder::new().code(text).map_err(failed)?;
        let next = random_key()?;
        let token = token.append_with_keypair(&next, block).map_err(failed)?;
        written(&token.to_vec().map_err(failed)?)
    }

    fn seal(word: &str) -> Result<Token, TokenError> {
        let token = decoded(word)?.seal().map_err(failed)?;
        written(&token.to_vec().map_err(failed)?)
    }

    fn read(word: &str) -> Result<Opened, Denied> {
        let token = decoded(word)?;
        read_blocks(
            token.block_count().saturating_sub(1),
            |index| token.print_block_source(index),
            &token.revocation_identifiers(),
        )
    }
}

/// Most operators of an expression: those of a narrowing have three. A printer writes all that one joins out anew.
const MOST_OPERATORS: usize = 4;

/// Whether a block has only what could be a narrowing's, as far as its outer form says: checks, and in these no function of many
/// operators, nothing nested and nothing that may stand there twice.
fn is_plain(block: &[u8]) -> bool {
    // The numbers are those of Biscuit's schema.
    each(block, |field, value| match field {
        BLOCK_CHECK => each(value, |field, query| field != CHECK_QUERY || each(query, is_plain_part)),
        BLOCK_FACT | BLOCK_RULE => false,
        _ => true,
    })
}

const BLOCK_FACT: u64 = 4;
const BLOCK_RULE: u64 = 5;
const BLOCK_CHECK: u64 = 6;
const CHECK_QUERY: u64 = 1;

/// The same of a part of a query.
fn is_plain_part(field: u64, value: &[u8]) -> bool {
    const EXPRESSION: u64 = 3;
    const OPERATOR: u64 = 1;
    if field != EXPRESSION {
        return true;
    }
    let mut operators = 0;
    each(value, |field, operator| {
        operators += usize::from(field == OPERATOR);
        operators <= MOST_OPERATORS && each(operator, is_plain_operator)
    })
}

/// The same of an operator: no closure, and no list or map.
fn is_plain_operator(field: u64, value: &[u8]) -> bool {
    const VALUE: u64 = 1;
    const CLOSURE: u64 = 4;
    const LIST: u64 = 9;
    const MAP: u64 = 10;
    field != CLOSURE && (field != VALUE || each(value, |kind, _| kind != LIST && kind != MAP))
}

/// Whether that is so of each field of a message in the form of protocol buffers; a field that is a number has no bytes here. What is no
/// message is not.
fn each(mut message: &[u8], mut so: impl FnMut(u64, &[u8]) -> bool) -> bool {
    while !message.is_empty() {
        let Some((field, value)) = next_field(&mut message) else {
            return false;
        };
        if !so(field, value) {
            return false;
        }
    }
    true
}

fn next_field<'m>(message: &mut &'m [u8]) -> Option<(u64, &'m [u8])> {
    const NUMBER: u64 = 0;
    const BYTES: u64 = 2;
    let key = varint(message)?;
    let length = match key & 7 {
        NUMBER => {
            varint(message)?;
            0
        }
        BYTES => usize::try_from(varint(message)?).ok()?,
        // Biscuit's schema has no other.
        _ => return None,
    };
    let (value, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some((key >> 3, value))
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The form of a token, within its bounds. Nothing of it is believed.
fn decoded(word: &str) -> Result<UnverifiedBiscuit, Denied> {
    let text = word.strip_prefix(PREFIX).ok_or_else(malformed)?;
    if !guard!("token.size", word.len() <= LONGEST) {
        return Err(malformed());
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?;
    let bytes = Zeroizing::new(bytes);
    let token = UnverifiedBiscuit::from(bytes.as_slice()).map_err(|_| malformed())?;
    if !guard!("token.blocks", token.block_count() <= MOST_BLOCKS + 1) {
        return Err(malformed());
    }
    // One token, one text: no field that the library skips, no key's hint, nothing behind the end.
    let whole = token.root_key_id().is_none() && token.to_vec().is_ok_and(|again| again == *bytes);
    if !guard!("token.canonical", whole) {
        return Err(malformed());
    }
    Ok(token)
}

fn written(bytes: &[u8]) -> Result<Token, TokenError> {
    let mut word = Zeroizing::new(String::with_capacity(PREFIX.len() + bytes.len().div_ceil(3) * 4));
    word.push_str(PREFIX);
    BASE64URL_NOPAD.encode_append(bytes, &mut word);
    if word.len() > LONGEST {
        return Err(TokenError::Full("the token would be longer than 8 KiB"));
    }
    Ok(Token(word))
}

/// What blocks say, as the library prints them: the first, and so many that holders appended.
fn read_blocks(
    appended: usize,
    source: impl Fn(usize) -> Result<String, error::Token>,
    ids: &[Vec<u8>],
) -> Result<Opened, Denied> {
    let first = source(0).map_err(|_| malformed())?;
    let authority = Authority::parse(&first).ok_or_else(malformed)?;
    let mut blocks = Vec::with_capacity(appended);
    for (index, id) in (1..=appended).zip(ids.iter().skip(1)) {
        let text = source(index).map_err(|_| unknown_block())?;
        let block = Attenuation::parse(&text).ok_or_else(unknown_block)?;
        blocks.push((Digest::domain("ambit/run-token-block/v1", &[id]), block));
    }
    if blocks.len() != appended {
        return Err(malformed());
    }
    let ids: Vec<&[u8]> = ids.iter().map(Vec::as_slice).collect();
    Ok(Opened {
        authority,
        blocks,
        id: Digest::domain("ambit/run-token/v1", &ids),
    })
}

/// What was read as this program writes it. Its keys are nobody's: only the blocks of it are looked at.
fn as_ours(opened: &Opened) -> Result<schema::Biscuit, TokenError> {
    let nobody = key(&[1; 32])?;
    let text = opened.authority.to_text()?;
    let first = Biscuit::builder().code(text).map_err(failed)?;
    let mut token = first
        .build_with_key_pair(&nobody, Default::default(), &nobody)
        .map_err(failed)?;
    for (_, block) in &opened.blocks {
        let block = BlockBuilder::new().code(block.to_text()?).map_err(failed)?;
        token = token.append_with_keypair(&nobody, block).map_err(failed)?;
    }
    Ok(token.container().to_proto())
}

fn key(seed: &[u8; 32]) -> Result<KeyPair, TokenError> {
    KeyPair::from_bytes(seed, Algorithm::Ed25519).map_err(|error| TokenError::Failed(error.to_string()))
}

/// A key for who narrows next. It goes with the token, and is nowhere else.
fn random_key() -> Result<KeyPair, TokenError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| TokenError::Failed(error.to_string()))?;
    key(&seed)
}

fn failed(error: error::Token) -> TokenError {
    match error {
        error::Token::AlreadySealed | error::Token::AppendOnSealed => TokenError::Sealed,
        error => TokenError::Failed(error.to_string()),
    }
}
