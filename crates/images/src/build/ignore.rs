//! `.dockerignore`: which files of a folder do not become part of its image.
//!
//! Of Docker's rules: a pattern a line, `#` begins a comment, `*` and `?` stand for part of a name, `[a-z]` and `[^a-z]` for
//! one character, `**` for any number of folders, `\` takes the next character as it is, `!` brings back what an earlier
//! line left out, and the last line that matches decides. Patterns are about the whole path from the folder's root, and a
//! folder that is left out takes along what is in it.

use std::path::Path;

use crate::Error;

/// Lines of the file.
#[derive(Debug, Default)]
pub struct Ignore(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// What `!` begins.
    brings_back: bool,
    /// Names, or patterns of names, from the root.
    parts: Vec<Vec<u8>>,
}

/// Bytes of the file that are read: it is a list of names.
const BYTES: usize = 1 << 20;
/// Bytes of one pattern, longer than any path.
const PATTERN: usize = 4096;

impl Ignore {
    /// Reads the file of a folder; one that is not there leaves out nothing.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(".dockerignore");
        match std::fs::read(&path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::host(format!("reading {}", path.display()))(error)),
        }
    }

    fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.len() > BYTES {
            return Err(Error::Invalid(".dockerignore is larger than 1 MiB".to_owned()));
        }
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            if line.starts_with(b"#") {
                continue;
            }
            let line = line.trim_ascii();
            let (brings_back, pattern) = match line.strip_prefix(b"!") {
                Some(rest) => (true, rest.trim_ascii_start()),
                None => (false, line),
            };
            if pattern.len() > PATTERN {
                return Err(Error::Invalid("a line of .dockerignore is longer than 4096 bytes".to_owned()));
            }
            let parts = parts(pattern);
            if !parts.is_empty() {
                rules.push(Rule { brings_back, parts });
            }
        }
        Ok(Self(rules))
    }

    /// Whether a path, relative to the folder and with `/` between its names, is left out.
    pub fn leaves_out(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        self.0.iter().rev().find(|rule| rule.is_about(&names)).is_some_and(|rule| !rule.brings_back)
    }

    /// Whether something in a folder that is left out may be brought back.
    pub fn brings_back(&self) -> bool {
        self.0.iter().any(|rule| rule.brings_back)
    }
}

impl Rule {
    /// Whether the path or a folder around it matches.
    fn is_about(&self, names: &[&[u8]]) -> bool {
        (1..=names.len()).any(|count| matches(&self.parts, &names[..count]))
    }
}

/// The names of a pattern, cleaned as Go's `filepath.Clean` does: `.` means nothing, `..` takes back.
fn parts(pattern: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in pattern.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            // Twice in a row is once.
            b"**" if parts.last().is_some_and(|last| last == b"**") => {}
            part => parts.push(part.to_vec()),
        }
    }
    parts
}

/// Whether a pattern is about exactly this path. `reached[i]`: the pattern's parts so far match the first i names.
fn matches(parts: &[Vec<u8>], names: &[&[u8]]) -> bool {
    let mut reached = vec![false; names.len() + 1];
    reached[0] = true;
    for part in parts {
        if part == b"**" {
            if let Some(first) = reached.iter().position(|here| *here) {
                reached[first..].fill(true);
            }
            continue;
        }
        let mut next = vec![false; names.len() + 1];
        for (at, name) in names.iter().enumerate() {
            next[at + 1] = reached[at] && is_like(part, name);
        }
        reached = next;
    }
    reached[names.len()]
}

/// Whether a name is like a pattern. Goes back to the last `*` only, so it takes no more than both lengths multiplied.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match one(&pattern[p..], name[n]) {
            _ if pattern.get(p) == Some(&b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(used) => {
                p += used;
                n += 1;
                continue;
            }
            None => {}
        }
        let Some((after, from)) = star else { return false };
        star = Some((after, from + 1));
        (p, n) = (after, from + 1);
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether a pattern's next element takes this byte; how long the element is.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', rest @ ..] => class(rest, byte),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// `a-z]`, `^a]`: what follows a `[`.
fn class(rest: &[u8], byte: u8) -> Option<usize> {
    let negated = rest.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    let begin = at;
    loop {
        match rest.get(at)? {
            b']' if at > begin => break,
            low => {
                let high = if rest.get(at + 1) == Some(&b'-') && rest.get(at + 2)? != &b']' {
                    at += 2;
                    rest.get(at)?
                } else {
                    low
                };
                found |= (*low..=*high).contains(&byte);
                at += 1;
            }
        }
    }
    (found != negated).then_some(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, left_out: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(lines.as_bytes()).unwrap();
        for path in left_out {
            assert!(ignore.leaves_out(path.as_bytes()), "{lines:?} leaves out {path}");
        }
        for path in kept {
            assert!(!ignore.leaves_out(path.as_bytes()), "{lines:?} keeps {path}");
        }
    }

    #[test]
    fn patterns_are_dockers() {
        check("", &[], &["a"]);
        check("# a\n\n  \n", &[], &["a", "# a"]);
        check("a", &["a", "a/b"], &["b/a", "aa"]);
        check("/a/\r\n./b", &["a", "b/c"], &["c"]);
        check("*/temp*", &["x/temp", "x/temporary.txt", "x/temp/y"], &["temp", "x/y/temp"]);
        check("**/*.log", &["a.log", "x/y/b.log"], &["log", "a.log2"]);
        check("a/**", &["a/b", "a/b/c"], &["b"]);
        check("a/**/z", &["a/z", "a/b/c/z"], &["a", "z"]);
        check("?.c\n[a-c]1\n[^x]2\n\\*", &["x.c", "b1", "a2", "*"], &["xx.c", "d1", "x2", "y"]);
        check("*\n!keep\n!src/**/*.py", &["a", "src/a.c"], &["keep", "keep/x", "src/a.py", "src/x/y.py"]);
        check("docs\n!docs/README\n", &["docs/x"], &["docs/README"]);
        check("*.md\n!README.md\nREADME.md", &["README.md"], &[]);
        check("a/../b", &["b"], &["a"]);
        check("[", &[], &["a", "["]);
    }

    #[test]
    fn a_pattern_takes_no_time_out_of_bounds() {
        let pattern = "*a".repeat(2000);
        let ignore = Ignore::parse(pattern.as_bytes()).unwrap();
        assert!(!ignore.leaves_out("a".repeat(1900).as_bytes()));
        assert!(Ignore::parse(&[b'a'; PATTERN + 1]).is_err());
    }
}
