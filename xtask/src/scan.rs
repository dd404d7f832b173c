//! Reads Rust source just well enough to tell code from comments and strings.
//!
//! Not a parser: raw strings, byte strings, nested comments, character literals and lifetimes are told
//! apart, everything else is passed through. Lines keep their numbers.

/// A source file taken apart.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The text with comments and the insides of strings blanked out.
    pub(crate) code: String,
    /// Contents of string literals with the line each starts on, from 1.
    pub(crate) strings: Vec<(usize, String)>,
}

/// Takes a file apart.
pub(crate) fn scan(text: &str) -> Scan {
    let mut scanner = Scanner { rest: text, line: 1, out: Scan::default() };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.out
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    out: Scan,
}

impl Scanner<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.blank(end);
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment(self.rest));
        } else if let Some((open, hashes)) = raw_string(self.rest).filter(|_| !self.after_word()) {
            let close = format!("\"{}", "#".repeat(hashes));
            let length = self.rest[open..].find(&close).unwrap_or(self.rest.len() - open);
            self.string(open, length, close.len());
        } else if self.rest.starts_with('"') {
            self.string(1, plain_string(&self.rest[1..]), 1);
        } else if let Some(length) = character(self.rest) {
            self.blank(length);
        } else {
            let length = self.rest.chars().next().map_or(0, char::len_utf8);
            self.pass(length);
        }
    }

    /// Whether the character before belongs to a word (`for"x"` aside, an `r` there starts no raw string).
    fn after_word(&self) -> bool {
        self.out.code.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_')
    }

    fn string(&mut self, open: usize, length: usize, close: usize) {
        let end = (open + length).min(self.rest.len());
        self.out.strings.push((self.line, self.rest[open..end].to_owned()));
        self.pass(open);
        self.blank(end - open);
        self.pass(close.min(self.rest.len()));
    }

    fn pass(&mut self, length: usize) {
        let (text, rest) = self.rest.split_at(length);
        self.line += text.matches('\n').count();
        self.out.code.push_str(text);
        self.rest = rest;
    }

    fn blank(&mut self, length: usize) {
        let (text, rest) = self.rest.split_at(length);
        self.line += text.matches('\n').count();
        self.out.code.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

/// Length of a comment that may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0usize);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// `r"`, `br#"`, `cr##"`: length up to and including the quote, and the number of hashes.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('"') || rest.starts_with('#'))
    })?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let open = prefix.len() + hashes;
    text[open..].starts_with('"').then_some((open + 1, hashes))
}

/// Length of a string's inside, given the text after its opening quote.
fn plain_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character literal; `None` for a lifetime and everything else.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        let escaped = 1 + inside[1..].chars().next()?.len_utf8();
        return inside[escaped..].find('\'').map(|end| escaped + end + 2);
    }
    let after = &inside[first.len_utf8()..];
    after.starts_with('\'').then(|| first.len_utf8() + 2)
}

/// Blanks out every `#[cfg(test)] mod … { … }`, so that what is left is what ships.
pub(crate) fn without_test_modules(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = item_end(&out, start + "#[cfg(test)]".len());
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
        from = start + blank.len();
    }
    out
}

/// Where the item that starts here ends: at its closing brace, or at a semicolon before any brace.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b';' if depth == 0 => return at + 1,
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Line numbers, from 1, on which the word stands by itself.
pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let edge = |edge: Option<char>, own: Option<char>| !(edge.is_some_and(inside) && own.is_some_and(inside));
    let mut lines: Vec<usize> = code
        .match_indices(word)
        .filter(|(at, _)| edge(code[..*at].chars().next_back(), word.chars().next()))
        .filter(|(at, _)| edge(code[at + word.len()..].chars().next(), word.chars().next_back()))
        .map(|(at, _)| 1 + code[..at].matches('\n').count())
        .collect();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* nested */ unsafe */ let b = r#\"unsafe \"q\" \"#;\nlet c = '\"'; let d: &'static str = \"s\"; unsafe {}";
        let found = scan(text);
        assert_eq!(lines_with(&found.code, "unsafe"), [3]);
        let strings: Vec<_> = found.strings.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(strings, [(1, "unsafe \\\" x"), (2, "unsafe \"q\" "), (3, "s")]);
    }

    #[test]
    fn characters_and_lifetimes() {
        let found = scan("f('\\'', '\\u{1F600}', 'é', b'\\\\'); fn g<'a>(x: &'a str) { \"end\" }");
        assert_eq!(found.strings, [(1, "end".to_owned())]);
        assert!(found.code.contains("fn g<'a>(x: &'a str)"));
    }

    #[test]
    fn unfinished_text_ends() {
        for text in ["\"", "r#\"x", "/* /* */", "'", "'\\", "br", "\"\\"] {
            scan(text);
        }
    }

    #[test]
    fn words_have_edges() {
        assert_eq!(lines_with("unsafely\nmy_unsafe\n unsafe\n", "unsafe"), [3]);
        assert_eq!(lines_with("x.todo!()\ntodo!()", "todo!"), [1, 2]);
        assert!(lines_with("my_todo!()", "todo!").is_empty());
        assert_eq!(lines_with("#[ignore = \"\"]", "#[ignore"), [1]);
    }

    #[test]
    fn test_modules_are_left_out() {
        let code =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { {} }\n}\n#[cfg(test)]\nmod other;\nfn c() {}\n";
        let rest = without_test_modules(code);
        assert!(!rest.contains("fn b") && !rest.contains("mod other"));
        assert!(rest.contains("fn a") && rest.contains("fn c"));
        assert_eq!(rest.matches('\n').count(), code.matches('\n').count());
    }
}
