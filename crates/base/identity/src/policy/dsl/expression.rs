//! The small expression language under the policy text.

use crate::PolicyError;

/// How deep calls may nest.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Call(String, Vec<Expression>),
    Text(String),
    Integer(i64),
    Float(f64),
    Word(String),
}

/// Reads one expression.
pub(super) fn parse(text: &str) -> Result<Expression, PolicyError> {
    let mut reader = Reader { text, at: 0 };
    let found = reader.expression(0)?;
    reader.skip_blanks();
    match reader.peek() {
        None => Ok(found),
        Some(_) => Err(reader.unexpected()),
    }
}

/// A string literal with this value.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl Expression {
    /// Names must be known wherever they stand, before anything is worked out.
    pub(super) fn check_names(
        &self,
        known: impl Fn(&str) -> bool + Copy,
    ) -> Result<(), PolicyError> {
        let unknown = |name: &str| Err(PolicyError::Malformed(format!("unknown name {name}")));
        match self {
            Expression::Call(name, _) if !known(name) => unknown(name),
            Expression::Call(_, arguments) => arguments
                .iter()
                .try_for_each(|argument| argument.check_names(known)),
            Expression::Word(word) if !matches!(word.as_str(), "true" | "false" | "nil") => {
                if known(word) { Ok(()) } else { unknown(word) }
            }
            _ => Ok(()),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn fail(&self, reason: String) -> PolicyError {
        PolicyError::Malformed(reason)
    }

    fn unexpected(&self) -> PolicyError {
        match self.peek() {
            None => self.fail("unexpected token EOF".to_owned()),
            Some(c) => self.fail(format!(
                "unexpected token {c:?} at position {}",
                self.at + 1
            )),
        }
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, PolicyError> {
        if depth > MAX_DEPTH {
            return Err(self.fail("the policy string nests too deep".to_owned()));
        }
        self.skip_blanks();
        match self.peek() {
            Some(quote @ ('\'' | '"')) => self.string(quote),
            Some('`') => self.raw_string(),
            Some('(') => {
                self.next();
                let inner = self.expression(depth + 1)?;
                self.expect(')')?;
                Ok(inner)
            }
            Some('-' | '+') => {
                let negative = self.next() == Some('-');
                match self.expression(depth + 1)? {
                    Expression::Integer(n) if negative => Ok(Expression::Integer(-n)),
                    Expression::Float(n) if negative => Ok(Expression::Float(-n)),
                    number @ (Expression::Integer(_) | Expression::Float(_)) => Ok(number),
                    _ => Err(self.fail("invalid operation: a sign before no number".to_owned())),
                }
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' || c == '$' => self.word(depth),
            _ => Err(self.unexpected()),
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), PolicyError> {
        self.skip_blanks();
        if self.peek() != Some(wanted) {
            return Err(self.unexpected());
        }
        self.next();
        Ok(())
    }

    fn while_char(&mut self, fits: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&fits) {
            self.next();
        }
        self.text[start..self.at].to_owned()
    }

    fn number(&mut self) -> Result<Expression, PolicyError> {
        let digits = self.while_char(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        let plain = digits.replace('_', "");
        if let Ok(n) = plain.parse() {
            return Ok(Expression::Integer(n));
        }
        match plain.parse::<f64>() {
            Ok(n) if n.is_finite() => Ok(Expression::Float(n)),
            _ => Err(self.fail(format!("bad number syntax: {digits:?}"))),
        }
    }

    fn word(&mut self, depth: usize) -> Result<Expression, PolicyError> {
        let word = self.while_char(|c| c.is_alphanumeric() || c == '_' || c == '$');
        self.skip_blanks();
        if self.peek() != Some('(') {
            return Ok(Expression::Word(word));
        }
        self.next();
        let mut arguments = Vec::new();
        loop {
            self.skip_blanks();
            if self.peek() == Some(')') {
                self.next();
                return Ok(Expression::Call(word, arguments));
            }
            if !arguments.is_empty() {
                self.expect(',')?;
                self.skip_blanks();
                // A comma may close the list.
                if self.peek() == Some(')') {
                    continue;
                }
            }
            arguments.push(self.expression(depth + 1)?);
        }
    }

    fn raw_string(&mut self) -> Result<Expression, PolicyError> {
        self.next();
        let text = self.while_char(|c| c != '`');
        match self.next() {
            Some(_) => Ok(Expression::Text(text)),
            None => Err(self.fail("literal not terminated".to_owned())),
        }
    }

    fn string(&mut self, quote: char) -> Result<Expression, PolicyError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.fail("literal not terminated".to_owned())),
                Some(c) if c == quote => return Ok(Expression::Text(text)),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, PolicyError> {
        let unable = || PolicyError::Malformed("invalid char escape".to_owned());
        Ok(match self.next().ok_or_else(unable)? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            c @ ('\\' | '\'' | '"' | '`') => c,
            'x' => self.hex(2)?,
            'u' => self.hex(4)?,
            'U' => self.hex(8)?,
            _ => return Err(unable()),
        })
    }

    fn hex(&mut self, digits: usize) -> Result<char, PolicyError> {
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.next().and_then(|c| c.to_digit(16));
            let digit = digit.ok_or_else(|| self.fail("invalid char escape".to_owned()))?;
            code = code << 4 | digit;
        }
        char::from_u32(code).ok_or_else(|| self.fail("invalid char escape".to_owned()))
    }
}
