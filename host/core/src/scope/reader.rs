use super::ScopeError;

/// Reads words off the front of a scope's text.
pub(super) struct Reader<'a> {
    text: &'a str,
    pub(super) at: usize,
}

/// A piece of the text, and where it begins.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub(super) fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    pub(super) fn is_at(&self, c: char) -> bool {
        self.rest().starts_with(c)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn take(&mut self, c: char) -> bool {
        let next = self.is_at(c);
        self.at += if next { c.len_utf8() } else { 0 };
        next
    }

    /// What comes before the first character that `ends` it.
    pub(super) fn until(&mut self, ends: impl Fn(char) -> bool) -> Piece<'a> {
        let rest = self.rest();
        let text = rest.split(ends).next().unwrap_or("");
        let piece = Piece { at: self.at, text };
        self.at += text.len();
        piece
    }

    /// What is in the parentheses that begin here. One inside a quoted name does not end them.
    pub(super) fn parenthesised(&mut self) -> Result<Piece<'a>, ScopeError> {
        let open = self.at;
        if !self.take('(') {
            return Err(ScopeError::new(open, "expected `(`"));
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.rest().bytes().position(|b| {
            let ends = b == b')' && !quoted;
            quoted ^= b == b'"' && !escaped;
            escaped = quoted && b == b'\\' && !escaped;
            ends
        });
        let Some(text) = end.and_then(|end| self.rest().get(..end)) else {
            return Err(ScopeError::new(open, "the `(` is not closed"));
        };
        let piece = Piece { at: self.at, text };
        self.at += text.len() + 1;
        Ok(piece)
    }
}
