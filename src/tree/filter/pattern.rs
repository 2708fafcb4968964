//! One pattern of a filter rule, with the meaning that rsync gives it.
//!
//! Patterns are bytes and match bytes. A peer may have written them, so matching takes time in
//! proportion to pattern and path, whatever they are: all ways to match are followed at once, and
//! nothing is ever tried a second time.

use super::{InvalidRule, PATTERN_BYTES_MAX};

/// One piece of a pattern with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This byte.
    Byte(u8),
    /// `?`: any byte but a slash.
    Any,
    /// `*`: any number of bytes without a slash.
    Star,
    /// `**`: any number of bytes.
    StarStar,
    /// `[...]`: one of these bytes, never a slash.
    Class(Box<Class>),
    /// What rsync never takes for a match, such as a class without its end.
    Nothing,
}

/// Which bytes belong to a class.
type Class = [bool; 256];

/// Where in a path a pattern may begin to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the beginning of the path.
    Path,
    /// The last so many names of the path are all that is compared.
    Names(usize),
    /// At the beginning of the path, and behind each slash.
    EachName,
    /// At a slash put in front of the path, for a pattern that begins with `**`.
    SlashBefore,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// No wildcard: the bytes themselves, backslashes too.
    Literal(Box<[u8]>),
    /// With wildcards.
    Wild(Box<[Token]>),
}

/// A pattern, ready to be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As it was written.
    text: Box<[u8]>,
    form: Form,
    start: Start,
    /// It ended with a slash: it matches directories only.
    dirs_only: bool,
    /// It ends with `***`, which matches a directory as well as what is in it.
    dir_itself: bool,
}

impl Pattern {
    /// Reads a pattern.
    pub(super) fn new(text: &[u8]) -> Result<Self, InvalidRule> {
        if text.is_empty() {
            return Err(InvalidRule::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(InvalidRule::TooLong);
        }
        if text.contains(&0) {
            return Err(InvalidRule::Nul);
        }
        let (body, dirs_only) = match text {
            [body @ .., b'/'] if !body.is_empty() => (body, true),
            _ => (text, false),
        };
        let is_wild = body.iter().any(|byte| b"*?[".contains(byte));
        let slashes = body.iter().filter(|&&byte| byte == b'/').count();
        let spans = is_wild && body.windows(2).any(|pair| pair == b"**");
        let (body, start) = match body {
            [b'/', rest @ ..] => (rest, Start::Path),
            _ if !spans => (body, Start::Names(slashes + 1)),
            [b'*', b'*', ..] => (body, Start::SlashBefore),
            _ => (body, Start::EachName),
        };
        let form = if is_wild {
            Form::Wild(tokens(body))
        } else {
            Form::Literal(body.into())
        };
        Ok(Self {
            text: text.into(),
            form,
            start,
            dirs_only,
            dir_itself: spans && body.ends_with(b"***"),
        })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// True if it matches this path below the root.
    pub(super) fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.dirs_only && !is_dir {
            return false;
        }
        let Some(part) = (match self.start {
            Start::Names(count) => last_names(path, count),
            _ => Some(path),
        }) else {
            return false;
        };
        match &self.form {
            Form::Literal(bytes) => **bytes == *part,
            Form::Wild(tokens) => {
                let before: &[u8] = match self.start {
                    Start::SlashBefore => b"/",
                    _ => b"",
                };
                let after: &[u8] = if is_dir && self.dir_itself { b"/" } else { b"" };
                let text = before.iter().chain(part).chain(after).copied();
                wild_matches(tokens, text, self.start == Start::EachName)
            }
        }
    }
}

/// The last `count` names of a path; `None` if it has fewer.
fn last_names(path: &[u8], count: usize) -> Option<&[u8]> {
    let slashes = path
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'/');
    match slashes.map(|(at, _)| at + 1).nth(count - 1) {
        Some(start) => Some(&path[start..]),
        None => (path.iter().filter(|&&byte| byte == b'/').count() + 1 == count).then_some(path),
    }
}

// ---- wildcards -------------------------------------------------------------------------------------

const WORDS: usize = (PATTERN_BYTES_MAX + 1) / 64;

/// Places in a pattern: one bit for each, the last for its end.
struct Places {
    bits: [u64; WORDS],
    words: usize,
}

impl Places {
    fn none(tokens: &[Token]) -> Self {
        Self {
            bits: [0; WORDS],
            words: tokens.len() / 64 + 1,
        }
    }

    /// Adds a place; stars may match nothing, so what follows them is reached too.
    fn add(&mut self, tokens: &[Token], mut at: usize) {
        loop {
            self.bits[at / 64] |= 1 << (at % 64);
            match tokens.get(at) {
                Some(Token::Star | Token::StarStar) => at += 1,
                _ => return,
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.bits[..self.words].iter().all(|&word| word == 0)
    }

    fn holds(&self, at: usize) -> bool {
        self.bits[at / 64] >> (at % 64) & 1 == 1
    }
}

fn wild_matches(tokens: &[Token], text: impl Iterator<Item = u8>, at_each_name: bool) -> bool {
    let mut now = Places::none(tokens);
    now.add(tokens, 0);
    for byte in text {
        let mut next = Places::none(tokens);
        for word in 0..now.words {
            let mut left = now.bits[word];
            while left != 0 {
                let at = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                match tokens.get(at) {
                    Some(Token::Byte(wanted)) if *wanted == byte => next.add(tokens, at + 1),
                    Some(Token::Any) if byte != b'/' => next.add(tokens, at + 1),
                    Some(Token::Class(class)) if class[usize::from(byte)] => {
                        next.add(tokens, at + 1);
                    }
                    Some(Token::Star) if byte != b'/' => next.add(tokens, at),
                    Some(Token::StarStar) => next.add(tokens, at),
                    _ => {}
                }
            }
        }
        if at_each_name && byte == b'/' {
            next.add(tokens, 0);
        }
        now = next;
        if now.is_empty() && !at_each_name {
            return false;
        }
    }
    now.holds(tokens.len())
}

fn tokens(pattern: &[u8]) -> Box<[Token]> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    while let [first, after @ ..] = rest {
        rest = after;
        tokens.push(match first {
            b'?' => Token::Any,
            b'*' => {
                let more = rest.iter().take_while(|&&byte| byte == b'*').count();
                rest = &rest[more..];
                if more > 0 {
                    Token::StarStar
                } else {
                    Token::Star
                }
            }
            b'\\' => match rest {
                [escaped, after @ ..] => {
                    rest = after;
                    Token::Byte(*escaped)
                }
                [] => Token::Nothing,
            },
            b'[' => match class(rest) {
                Some((class, after)) => {
                    rest = after;
                    Token::Class(class)
                }
                None => Token::Nothing,
            },
            byte => Token::Byte(*byte),
        });
    }
    tokens.into()
}

/// The class whose `[` was just read, and what follows its `]`. `None` if it has no end or names a kind
/// of characters that there is not.
fn class(mut rest: &[u8]) -> Option<(Box<Class>, &[u8])> {
    let mut held = Box::new([false; 256]);
    let negated = matches!(rest, [b'!' | b'^', ..]);
    rest = &rest[usize::from(negated)..];
    let mut previous: Option<u8> = None;
    let mut is_first = true;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match (byte, rest) {
            (b']', _) if !is_first => break,
            (b'\\', [escaped, after @ ..]) => {
                held[usize::from(*escaped)] = true;
                (previous, rest) = (Some(*escaped), after);
            }
            (b'\\', []) => return None,
            (b'-', [last, ..]) if previous.is_some() && *last != b']' => {
                let (last, after) = range_end(rest)?;
                let first = previous.take().expect("it was just seen");
                (first..=last).for_each(|byte| held[usize::from(byte)] = true);
                rest = after;
            }
            (b'[', [b':', named @ ..]) => {
                let end = named.iter().position(|&byte| byte == b']')?;
                match &named[..end] {
                    [name @ .., b':'] => {
                        let belongs = kind_of_characters(name)?;
                        (0..=255).filter(belongs).for_each(|byte: u8| {
                            held[usize::from(byte)] = true;
                        });
                        (previous, rest) = (None, &named[end + 1..]);
                    }
                    _ => {
                        held[usize::from(b'[')] = true;
                        previous = Some(b'[');
                    }
                }
            }
            _ => {
                held[usize::from(byte)] = true;
                previous = Some(byte);
            }
        }
        is_first = false;
    }
    if negated {
        held.iter_mut().for_each(|held| *held = !*held);
    }
    held[usize::from(b'/')] = false;
    Some((held, rest))
}

/// The last byte of a range, which may be escaped, and what follows it.
fn range_end(rest: &[u8]) -> Option<(u8, &[u8])> {
    match rest {
        [b'\\', last, after @ ..] | [last, after @ ..] if rest != b"\\" => Some((*last, after)),
        _ => None,
    }
}

/// What belongs to `[:name:]`, as in the C locale.
fn kind_of_characters(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| byte.is_ascii_whitespace() || *byte == 0x0b,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}
