//! From inputs to other inputs.

/// Numbers from a seed: SplitMix64. Not random to anyone who looks, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next one below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// Numbers at which something changes, as they are written.
const EDGES: [&str; 24] = [
    "0",
    "-0",
    "1",
    "-1",
    "00",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e-400",
    "0.1",
];

/// Bytes and texts that parsers of anything trip over.
const ODD: [&[u8]; 20] = [
    b"\0",
    b"\r\n",
    b"\n",
    b"\\",
    b"\"",
    b"'",
    b"%00",
    b"%2f",
    b"%252e",
    b"..",
    b"//",
    b"\xff",
    b"\xc3\x28",
    b"\x1b[31m",
    "\u{202e}".as_bytes(),
    "\u{feff}".as_bytes(),
    "é".as_bytes(),
    "💶".as_bytes(),
    "\u{85}".as_bytes(),
    "İ".as_bytes(),
];

/// Bends `input` one to eight times. `other` is spliced in, `words` are inserted.
pub fn bend(input: &[u8], other: &[u8], words: &[&str], longest: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    // Mostly few changes: each makes it likelier that nothing of the input is left.
    let times = 1 + (numbers.next().trailing_zeros() as usize).min(7);
    for _ in 0..times {
        once(&mut bytes, other, words, numbers);
    }
    bytes.truncate(longest);
    bytes
}

fn once(bytes: &mut Vec<u8>, other: &[u8], words: &[&str], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    match numbers.below(14) {
        0 => flip(bytes, at, numbers),
        1 => set(bytes, at, numbers.next() as u8),
        2 => drop(bytes.drain(at..end(bytes, at, numbers))),
        3 => {
            let piece = bytes.get(at..end(bytes, at, numbers)).unwrap_or_default().to_vec();
            insert(bytes, numbers.below(bytes.len() + 1), &piece);
        }
        4 => {
            let from = numbers.below(other.len() + 1);
            let to = from + numbers.below(other.len() - from + 1);
            let piece = other.get(from..to).unwrap_or_default();
            bytes.splice(at..end(bytes, at, numbers), piece.iter().copied());
        }
        5 => bytes.truncate(at),
        6 | 7 => insert(bytes, at, numbers.one(words).map_or(&[][..], |word| word.as_bytes())),
        8 => replace_word(bytes, words, numbers),
        9 => insert(bytes, at, numbers.one(&ODD).copied().unwrap_or_default()),
        10 => replace_number(bytes, numbers),
        11 => step(bytes, at, numbers),
        12 => repeat(bytes, at, numbers),
        _ => {
            let to = numbers.below(bytes.len());
            if at < bytes.len() {
                bytes.swap(at, to);
            }
        }
    }
}

/// An end after `at`: near, most times.
fn end(bytes: &[u8], at: usize, numbers: &mut Numbers) -> usize {
    let left = bytes.len() - at;
    let most = if numbers.below(4) == 0 { left } else { left.min(16) };
    at + numbers.below(most + 1)
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

fn flip(bytes: &mut [u8], at: usize, numbers: &mut Numbers) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << numbers.below(8);
    }
}

/// Lengths and counts in binary formats: one more, one less, or an edge.
fn step(bytes: &mut [u8], at: usize, numbers: &mut Numbers) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = match numbers.below(5) {
            0 => byte.wrapping_add(1),
            1 => byte.wrapping_sub(1),
            2 => 0x7f,
            3 => 0x80,
            _ => 0xff,
        };
    }
}

/// The same piece many times: nesting and length.
fn repeat(bytes: &mut Vec<u8>, at: usize, numbers: &mut Numbers) {
    let piece = bytes.get(at..end(bytes, at, numbers)).unwrap_or_default().to_vec();
    let times = [2, 3, 16, 65, 300][numbers.below(5)];
    if piece.len() * times <= 16 << 10 {
        insert(bytes, at, &piece.repeat(times));
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The stretches of bytes that are of a kind.
fn stretches(bytes: &[u8], of: impl Fn(u8) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (of(*byte), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| from..bytes.len()));
    found
}

fn replace_word(bytes: &mut Vec<u8>, words: &[&str], numbers: &mut Numbers) {
    let found = stretches(bytes, is_word);
    if let (Some(range), Some(word)) = (numbers.one(&found), numbers.one(words)) {
        bytes.splice(range.clone(), word.bytes());
    }
}

fn replace_number(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let found = stretches(bytes, |byte| byte.is_ascii_digit());
    let edge = numbers.one(&EDGES).copied().unwrap_or_default();
    match numbers.one(&found) {
        Some(range) => drop(bytes.splice(range.clone(), edge.bytes())),
        None => insert(bytes, numbers.below(bytes.len() + 1), edge.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bending_is_a_function_of_its_seed() {
        let run = |seed| {
            let mut numbers = Numbers::new(seed);
            (0..200)
                .map(|_| bend(b"GET /a?b=1", b"[1,2]", &["word"], 64, &mut numbers))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(3).iter().all(|bytes| bytes.len() <= 64));
        assert!(
            run(4)
                .iter()
                .any(|bytes| bytes.windows(4).any(|window| window == b"word"))
        );
    }

    #[test]
    fn nothing_can_be_bent() {
        let mut numbers = Numbers::new(0);
        for _ in 0..2000 {
            bend(b"", b"", &[], 8, &mut numbers);
        }
    }
}
