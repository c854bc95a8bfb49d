//! A credential that comes back in an answer is covered before anybody sees it.
//!
//! Exact values only: patterns that guess at secrets block honest work. A value is found as it is, in base64 (either alphabet, wherever in
//! the encoded bytes it stands) and in hexadecimal, each also behind JSON's escapes and behind percent-encoding.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use memchr::{memchr, memmem};
use zeroize::Zeroizing;

/// What stands where a secret stood. Harmless inside a JSON string, a header and a URL's text.
const MASK: &[u8] = ambit_core::effect::MASKED.as_bytes();

/// A spelling shorter than this would also be found where nothing was leaked.
const MIN_SPELLING: usize = 8;

/// From so many spellings on a text is searched once for the ends of all of them, and not once for each.
const MANY: usize = 64;

/// Finds a connection's secrets in what its service answers.
#[derive(Default)]
pub(super) struct Masker {
    spellings: Vec<Arc<Spelling>>,
    /// Which spellings end with these bytes, where there are [`MANY`]. Ends, as tokens of one issuer begin alike.
    ends: HashMap<[u8; MIN_SPELLING], Vec<usize>>,
}

/// One way to write a secret.
struct Spelling {
    text: Zeroizing<Vec<u8>>,
    /// How many characters before and after it carry a part of the secret too, in base64.
    before: usize,
    after: usize,
}

impl Masker {
    /// Adds a secret value in all its spellings.
    pub(super) fn add(&mut self, secret: &[u8]) {
        self.spell(Spelling::whole(secret.to_vec()));
        for encoding in [&HEXLOWER, &HEXUPPER] {
            self.spell(Spelling::whole(encoding.encode(secret).into_bytes()));
        }
        for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
            for offset in 0..3 {
                self.spell(Spelling::base64(encoding, secret, offset));
            }
        }
    }

    fn spell(&mut self, spelling: Spelling) {
        let known = |one: &Arc<Spelling>| one.text == spelling.text && one.before == spelling.before;
        if spelling.text.len() >= MIN_SPELLING && !self.spellings.iter().any(known) {
            self.spellings.push(Arc::new(spelling));
        }
    }

    /// One that finds what all of these do, in a time that hardly grows with how many they are.
    pub(super) fn of_all<'m>(maskers: impl IntoIterator<Item = &'m Masker>) -> Masker {
        let spellings = maskers.into_iter().flat_map(|masker| &masker.spellings);
        let mut all = Masker {
            spellings: spellings.cloned().collect(),
            ends: HashMap::new(),
        };
        if all.spellings.len() >= MANY {
            for (number, spelling) in all.spellings.iter().enumerate() {
                if let Some(end) = spelling.text.last_chunk() {
                    all.ends.entry(*end).or_default().push(number);
                }
            }
        }
        all
    }

    /// The text with every secret covered; the same bytes where there was none.
    pub(super) fn mask(&self, text: Bytes) -> Bytes {
        let mut found = Vec::new();
        self.find(&text, |start, end| found.push((start, end)));
        for layers in self.hiding(&text) {
            let view = View::of(&text, layers);
            self.find(&view.bytes, |start, end| found.push(view.range(start, end)));
        }
        if found.is_empty() {
            return text;
        }
        cover(&text, found)
    }

    /// Under which escapes a secret is found. Hardly ever any: so this does without places, which cost more than all the rest.
    fn hiding(&self, text: &[u8]) -> Vec<&'static [Escape]> {
        let unescaped = JSON.take_off(text);
        let both = unescaped.as_deref().and_then(|text| PERCENT.take_off(text));
        let views: [(_, &[Escape]); 3] = [
            (PERCENT.take_off(text), &[PERCENT]),
            (both, &[JSON, PERCENT]),
            (unescaped, &[JSON]),
        ];
        let hides = |bytes: &[u8]| {
            let mut some = false;
            self.find(bytes, |_, _| some = true);
            some
        };
        views
            .into_iter()
            .filter(|(bytes, _)| bytes.as_deref().is_some_and(|bytes| hides(bytes)))
            .map(|(_, layers)| layers)
            .collect()
    }

    /// As [`Masker::mask`], for text.
    #[cfg(test)]
    pub(super) fn mask_str(&self, text: &str) -> String {
        let masked = self.mask(Bytes::copy_from_slice(text.as_bytes()));
        String::from_utf8_lossy(&masked).into_owned()
    }

    fn find(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        if !self.ends.is_empty() {
            for (at, window) in text.windows(MIN_SPELLING).enumerate() {
                let numbers = self.ends.get(window).map_or(&[][..], Vec::as_slice);
                for spelling in numbers.iter().filter_map(|number| self.spellings.get(*number)) {
                    let end = at + MIN_SPELLING;
                    if text.get(..end).is_some_and(|text| text.ends_with(&spelling.text)) {
                        let (start, end) = spelling.with_its_edges(text, end - spelling.text.len());
                        found(start, end);
                    }
                }
            }
            return;
        }
        for spelling in &self.spellings {
            for start in memmem::find_iter(text, spelling.text.as_slice()) {
                let (start, end) = spelling.with_its_edges(text, start);
                found(start, end);
            }
        }
    }
}

impl Spelling {
    fn whole(text: Vec<u8>) -> Self {
        Self {
            text: Zeroizing::new(text),
            before: 0,
            after: 0,
        }
    }

    /// The characters of `secret`'s base64 that don't depend on what stands before and after it, when it begins at a byte
    /// whose position is `offset` modulo 3.
    fn base64(encoding: &Encoding, secret: &[u8], offset: usize) -> Self {
        let mut shifted = Zeroizing::new(vec![0; offset]);
        shifted.extend_from_slice(secret);
        let encoded = Zeroizing::new(encoding.encode(&shifted).into_bytes());
        // A character carries six bits. Those with any bit of the bytes before, or with padding bits at the end, are left out.
        let (first, last) = ((offset * 8).div_ceil(6), (shifted.len() * 8) / 6);
        Self {
            text: Zeroizing::new(encoded.get(first..last).unwrap_or_default().to_vec()),
            before: usize::from(offset > 0),
            after: usize::from(!(shifted.len() * 8).is_multiple_of(6)),
        }
    }

    /// Where a match that begins at `start` reaches, with the characters at its edges that carry bits of the secret.
    fn with_its_edges(&self, text: &[u8], start: usize) -> (usize, usize) {
        let base64 = |at: usize| {
            let byte = text.get(at).copied().unwrap_or_default();
            byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
        };
        let mut end = start.saturating_add(self.text.len());
        let first = start.saturating_sub(self.before);
        let start = if base64(first) { first } else { start };
        if self.after > 0 && base64(end) {
            end = end.saturating_add(self.after);
            // Behind a last character stands only what says that it is the last.
            let padding = text.get(end..).unwrap_or_default().iter().take(2);
            end = end.saturating_add(padding.take_while(|byte| **byte == b'=').count());
        }
        (start, end)
    }
}

/// Replaces the ranges, which may overlap, by [`MASK`].
fn cover(text: &[u8], mut found: Vec<(usize, usize)>) -> Bytes {
    found.sort_unstable();
    let mut masked = Vec::with_capacity(text.len());
    let mut done = 0;
    for (start, end) in found {
        if start >= done {
            masked.extend_from_slice(text.get(done..start).unwrap_or_default());
            masked.extend_from_slice(MASK);
        }
        done = done.max(end);
    }
    masked.extend_from_slice(text.get(done..).unwrap_or_default());
    masked.into()
}

/// A way to write a byte with others.
#[derive(Clone, Copy)]
struct Escape {
    /// What every escape begins with.
    mark: u8,
    /// Reads one escape at the start of the text: the bytes it stands for, and how many it takes. `None` where there is none.
    decode: fn(&[u8]) -> Option<(Decoded, usize)>,
}

/// As in JSON strings.
const JSON: Escape = Escape {
    mark: b'\\',
    decode: unescape_json,
};

/// As in URLs and forms.
const PERCENT: Escape = Escape {
    mark: b'%',
    decode: unescape_percent,
};

/// Up to four bytes: one character.
struct Decoded {
    bytes: [u8; 4],
    len: usize,
}

impl Escape {
    /// The text without this kind of escape; `None` where there is none to take off.
    fn take_off(&self, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut rest = text;
        let mut bytes = Zeroizing::new(Vec::new());
        while let Some(at) = memchr(self.mark, rest) {
            if bytes.capacity() == 0 {
                bytes.reserve_exact(text.len());
            }
            let (before, escape) = rest.split_at_checked(at)?;
            bytes.extend_from_slice(before);
            match (self.decode)(escape) {
                Some((decoded, taken)) => {
                    bytes.extend_from_slice(decoded.bytes.get(..decoded.len)?);
                    rest = escape.get(taken..)?;
                }
                None => {
                    bytes.push(self.mark);
                    rest = escape.get(1..)?;
                }
            }
        }
        if rest.len() == text.len() {
            return None;
        }
        bytes.extend_from_slice(rest);
        Some(bytes)
    }
}

/// Text with its escapes taken off, which still knows where each byte came from.
struct View {
    bytes: Zeroizing<Vec<u8>>,
    /// For each byte where its spelling starts in the text; one more entry for the text's end.
    starts: Vec<usize>,
}

impl View {
    fn of(text: &[u8], layers: &[Escape]) -> View {
        let mut view = View {
            bytes: Zeroizing::new(text.to_vec()),
            starts: (0..=text.len()).collect(),
        };
        for escape in layers {
            view = view.without(escape);
        }
        view
    }

    fn without(&self, escape: &Escape) -> View {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        let mut starts = Vec::with_capacity(self.starts.len());
        let mut rest = self.bytes.as_slice();
        while let Some((first, tail)) = rest.split_first() {
            let at = self.bytes.len().saturating_sub(rest.len());
            let start = self.starts.get(at).copied().unwrap_or_default();
            match (escape.decode)(rest) {
                Some((decoded, taken)) => {
                    for byte in decoded.bytes.iter().take(decoded.len) {
                        bytes.push(*byte);
                        starts.push(start);
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                }
                None => {
                    bytes.push(*first);
                    starts.push(start);
                    rest = tail;
                }
            }
        }
        starts.push(self.starts.last().copied().unwrap_or_default());
        View { bytes, starts }
    }

    /// Where in the text a range of the view came from.
    fn range(&self, start: usize, end: usize) -> (usize, usize) {
        let at = |index: usize| self.starts.get(index).copied().unwrap_or_default();
        (at(start), at(end))
    }
}

/// `\uXXXX` and the two-character escapes of JSON strings. A character beyond the basic plane is two escapes and is read as both.
fn unescape_json(text: &[u8]) -> Option<(Decoded, usize)> {
    let [b'\\', kind, rest @ ..] = text else {
        return None;
    };
    let (character, taken) = match kind {
        b'"' | b'\\' | b'/' => (char::from(*kind), 2),
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{c}', 2),
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        b'u' => {
            let high = hex_unit(rest)?;
            match rest.get(4..) {
                Some([b'\\', b'u', low @ ..]) if (0xd800..0xdc00).contains(&high) => {
                    let low = hex_unit(low)?;
                    let both = char::decode_utf16([high, low]).next()?.ok()?;
                    (both, 12)
                }
                _ => (char::from_u32(u32::from(high))?, 6),
            }
        }
        _ => return None,
    };
    let mut bytes = [0; 4];
    let len = character.encode_utf8(&mut bytes).len();
    Some((Decoded { bytes, len }, taken))
}

fn hex_unit(text: &[u8]) -> Option<u16> {
    let digits = text.get(..4)?;
    digits.iter().try_fold(0u16, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        u16::try_from(value).ok().map(|value| unit << 4 | value)
    })
}

/// `%XX` of URLs and forms.
fn unescape_percent(text: &[u8]) -> Option<(Decoded, usize)> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    Some((
        Decoded {
            bytes: [byte, 0, 0, 0],
            len: 1,
        },
        3,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "sk_test/4eC39+HqLy=";

    fn masker(secret: &str) -> Masker {
        let mut masker = Masker::default();
        masker.add(secret.as_bytes());
        masker
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(masker(SECRET).mask_str(text), expected);
    }

    #[test]
    fn trap_21_every_spelling_is_covered() {
        check("nothing here", "nothing here");
        check(&format!("a {SECRET} b {SECRET}"), "a [masked] b [masked]");
        check(&format!("{SECRET}{SECRET}"), "[masked][masked]");
        check(r#"{"key":"sk_test\/4eC39\u002bHqLy\u003D"}"#, r#"{"key":"[masked]"}"#);
        check("?k=sk_test%2F4eC39%2bHqLy%3D&x=1", "?k=[masked]&x=1");
        check(r#"{"url":"?k=sk_test%2f4eC39%2BHqLy%3d"}"#, r#"{"url":"?k=[masked]"}"#);
        check(r"\u0073k_test%2f4eC39%2BHqLy%3d\/", r"[masked]\/");
        check(&HEXLOWER.encode(SECRET.as_bytes()), "[masked]");
        check(&HEXUPPER.encode(SECRET.as_bytes()), "[masked]");
        check("%zz \\u12 \\", "%zz \\u12 \\");
    }

    #[test]
    fn many_secrets_are_found_as_each_is() {
        let secrets: Vec<String> = (0..100)
            .map(|n| format!("eyJhbGciOiJFUzI1NiJ9.common.{n:03}/tail+{}", n * 7))
            .collect();
        let maskers: Vec<Masker> = secrets.iter().map(|secret| masker(secret)).collect();
        let all = Masker::of_all(&maskers);
        assert!(!all.ends.is_empty());
        let check = |text: &str| {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let each = maskers.iter().fold(bytes, |text, masker| masker.mask(text));
            assert_eq!(all.mask_str(text), String::from_utf8_lossy(&each), "{text}");
        };
        for (n, secret) in secrets.iter().enumerate() {
            let base64 = data_encoding::BASE64.encode(format!("{}{secret}", "x".repeat(n % 3)).as_bytes());
            check(&format!("a {secret} b {base64} {}", HEXLOWER.encode(secret.as_bytes())));
            check(&format!("{{\"a\":\"{}\"}}", secret.replace('/', "\\/")));
            check(&secret.replace('/', "%2F").replace('+', "%2b"));
            check(secret.get(..secret.len() - 1).unwrap());
        }
        check("short");
        check("");
    }

    #[test]
    fn trap_21_what_only_looks_like_a_secret_stays() {
        for text in [
            "Bearer sk_live_51H8xQyAbCdEfGhIjKlMnOpQr",
            "AKIAIOSFODNN7EXAMPLE",
            "-----BEGIN PRIVATE KEY-----",
            r#"{"password":"hunter2","token":"eyJhbGciOiJIUzI1NiJ9.e30.c2ln"}"#,
        ] {
            check(text, text);
        }
    }

    #[test]
    fn a_basic_credential_is_covered_whatever_the_user() {
        for user in ["", "u", "us", "use", "a longer user name"] {
            let name = format!("{user}:");
            let sent = data_encoding::BASE64.encode(format!("{name}{SECRET}").as_bytes());
            let seen = masker(SECRET).mask_str(&sent);
            let whole_groups = name.len() - name.len() % 3;
            let before = data_encoding::BASE64.encode(&name.as_bytes()[..whole_groups]);
            let left = seen.strip_prefix(&before).unwrap();
            assert!(
                left.len() <= "[masked]".len() + 2 && left.ends_with("[masked]"),
                "{user}: {seen}"
            );
        }
    }

    #[test]
    fn both_ways_of_taking_escapes_off_agree() {
        for text in [
            "",
            "plain",
            r"\u0041\n\\\/%41%zz%4",
            r"%5cu0041 \u0025\u0034\u0031",
            r"\ud83d\ude00 \ud83d",
            "%%%41\\",
        ] {
            for escape in [JSON, PERCENT] {
                let view = View::of(text.as_bytes(), &[escape]);
                let quick = escape.take_off(text.as_bytes());
                assert_eq!(
                    quick.as_deref().map_or(text.as_bytes(), Vec::as_slice),
                    view.bytes.as_slice(),
                    "{text}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn base64_is_covered_at_every_offset(
            secret in "[!-~]{8,60}", before in proptest::collection::vec(any::<u8>(), 0..9), after in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let whole = [&before, secret.as_bytes(), &after].concat();
            for encoding in [&data_encoding::BASE64, &data_encoding::BASE64URL, &BASE64_NOPAD, &BASE64URL_NOPAD] {
                let seen = masker(&secret).mask_str(&encoding.encode(&whole));
                prop_assert!(seen.contains("[masked]"));
            }
        }

        #[test]
        fn no_text_panics_and_no_value_stays(
            secret in "[!-~]{8,20}", text in "[!-~\\\\%]{0,60}", at in 0usize..60,
        ) {
            let mut whole = text.clone();
            whole.insert_str(at.min(text.len()), &secret);
            let seen = masker(&secret).mask_str(&whole);
            prop_assert!(seen.contains("[masked]"));
            prop_assert!(!seen.contains(&secret));
        }
    }
}
