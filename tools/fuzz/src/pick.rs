//! Reading an input as choices and pieces, so that one input can say several things.

/// What is left of an input.
pub(crate) struct Pick<'a>(&'a [u8]);

impl<'a> Pick<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// A byte; 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    /// One of several.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// A piece: two bytes of length, little-endian, then as much as there is of it.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()) | usize::from(self.byte()) << 8;
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// A piece as text; what is not UTF-8 is replaced.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece()).into_owned()
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes what [`Pick`] reads, for seeds.
#[derive(Default)]
pub(crate) struct Put(Vec<u8>);

impl Put {
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn piece(mut self, piece: impl AsRef<[u8]>) -> Self {
        let piece = piece.as_ref();
        let length = u16::try_from(piece.len()).expect("a seed's pieces are short");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(piece);
        self
    }

    pub(crate) fn rest(mut self, rest: impl AsRef<[u8]>) -> Vec<u8> {
        self.0.extend_from_slice(rest.as_ref());
        self.0
    }
}
