use super::{Json, Number, Object};
use crate::guard;

/// How large a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Containers within each other; more than 256 is taken as 256, which the host's stack surely holds.
    pub depth: usize,
    /// Length of the text in bytes, and of what numbers written with exponents stand for.
    pub bytes: usize,
}

/// The design's limits: 64 levels, 1 MiB.
impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 64,
            bytes: 1 << 20,
        }
    }
}

const DEEPEST: usize = 256;

/// Why a text is not the JSON that is asked for, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {offset}")]
pub struct JsonError {
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// What.
    pub fault: Fault,
}

/// What is wrong with a JSON text.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not the grammar of RFC 8259.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A control character that is not escaped.
    #[error("control characters in strings must be escaped")]
    Control,
    /// Half of a surrogate pair, which stands for no character.
    #[error("a lone surrogate escape is not a character")]
    Surrogate,
    /// Services disagree about which of two members counts.
    #[error("the member `{0}` comes twice")]
    Duplicate(String),
    /// Not a number of JSON, such as `0100`, or one too long to be written without exponent.
    #[error("the number is none of JSON, or too long to be written out")]
    Number,
    /// Too many containers within each other.
    #[error("more than {0} levels deep")]
    Depth(usize),
    /// Too long.
    #[error("longer than {0} bytes")]
    Size(usize),
    /// Few bytes that stand for many: exponents that take that much more when they are written out.
    #[error("its numbers, written out without exponents, take more than {0} bytes")]
    WrittenOut(usize),
}

impl Json {
    /// Reads a whole text of RFC 8259.
    ///
    /// # Errors
    /// Anything that is not that grammar, a duplicate member, a lone surrogate, and what is beyond `limits`.
    pub fn parse(text: &str, limits: Limits) -> Result<Self, JsonError> {
        if !guard!("wire.json-size", text.len() <= limits.bytes) {
            return Err(JsonError {
                offset: limits.bytes,
                fault: Fault::Size(limits.bytes),
            });
        }
        let mut parser = Parser {
            text,
            at: 0,
            level: 0,
            limits,
            room: limits.bytes,
        };
        parser.space();
        let value = parser.value()?;
        parser.space();
        if parser.at < text.len() {
            Err(parser.expected("the end"))
        } else {
            Ok(value)
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Containers around this place.
    level: usize,
    limits: Limits,
    /// Bytes that plain numbers may still take.
    room: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail(&self, fault: Fault) -> JsonError {
        JsonError { offset: self.at, fault }
    }

    fn expected(&self, what: &'static str) -> JsonError {
        self.fail(Fault::Expected(what))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    fn value(&mut self) -> Result<Json, JsonError> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn word(&mut self, word: &'static str, value: Json) -> Result<Json, JsonError> {
        if !self.rest().starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<Json, JsonError>) -> Result<Json, JsonError> {
        if !guard!("wire.json-depth", self.level < self.limits.depth) || self.level >= DEEPEST {
            return Err(self.fail(Fault::Depth(self.limits.depth.min(DEEPEST))));
        }
        self.level += 1;
        let value = read(self);
        self.level -= 1;
        value
    }

    fn array(&mut self) -> Result<Json, JsonError> {
        self.at += 1;
        self.space();
        let mut elements = Vec::new();
        if self.take(b']') {
            return Ok(Json::Array(elements));
        }
        loop {
            self.space();
            elements.push(self.value()?);
            self.space();
            if self.take(b']') {
                return Ok(Json::Array(elements));
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    fn object(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        self.at += 1;
        self.space();
        let mut members = Vec::new();
        while !self.take(b'}') {
            if !members.is_empty() {
                if !self.take(b',') {
                    return Err(self.expected("`,` or `}`"));
                }
                self.space();
            }
            members.push(self.member()?);
            self.space();
        }
        Object::from_members(members)
            .map(Json::Object)
            .map_err(|name| JsonError {
                offset: start,
                fault: Fault::Duplicate(crate::error::printable(&name)),
            })
    }

    fn member(&mut self) -> Result<(String, Json), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a member's name"));
        }
        let name = self.string()?;
        self.space();
        if !self.take(b':') {
            return Err(self.expected("`:`"));
        }
        self.space();
        Ok((name, self.value()?))
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest().bytes().take_while(|b| part(b)).count();
        let text = self.rest().get(..length).unwrap_or("");
        let number: Number = text.parse().map_err(|_| self.fail(Fault::Number))?;
        let grown = number.weight().saturating_sub(length);
        self.room = self
            .room
            .checked_sub(grown)
            .ok_or_else(|| self.fail(Fault::WrittenOut(self.limits.bytes)))?;
        self.at += length;
        Ok(number)
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self
                .rest()
                .bytes()
                .take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f))
                .count();
            out.push_str(self.rest().get(..plain).unwrap_or(""));
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(self.fail(Fault::Control)),
                None => return Err(self.expected("`\"`")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        Ok(c)
    }

    /// The character of `uXXXX`, or of `uXXXX\uXXXX` where the first is half of a pair.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let lone = JsonError {
            offset: start,
            fault: Fault::Surrogate,
        };
        let high = self.hex()?;
        if let Some(c) = char::from_u32(high) {
            return Ok(c);
        }
        if high >= 0xdc00 || !(self.take(b'\\') && self.peek() == Some(b'u')) {
            return Err(lone);
        }
        let low = self.hex()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(lone);
        }
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(lone)
    }

    /// The four digits after `u`.
    fn hex(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let digits = self
            .rest()
            .get(..4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let value = value.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        self.at += 4;
        Ok(value)
    }
}
