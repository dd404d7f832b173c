//! The last bytes of a call's log, for `LogType=Tail`.

/// Lambda API: Invoke, `LogResult`: the last 4 KB.
const TAIL: usize = 4096;

/// Collects lines, holds twice as much as it shows at most.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Appends a line and its end.
    pub(super) fn push(&mut self, line: &[u8]) {
        let start = line.len().saturating_sub(TAIL);
        self.0.extend_from_slice(&line[start..]);
        self.0.push(b'\n');
        if self.0.len() > 2 * TAIL {
            // One byte more than is shown, to know whether that begins a line.
            self.0.drain(..self.0.len() - TAIL - 1);
        }
    }

    /// The last 4 KiB, from the start of a line; of a longer line its end.
    pub(super) fn read(&self) -> Vec<u8> {
        let Some(cut) = self.0.len().checked_sub(TAIL) else { return self.0.clone() };
        if cut == 0 || self.0[cut - 1] == b'\n' {
            return self.0[cut..].to_vec();
        }
        let shown = &self.0[cut..];
        let start = shown[..TAIL - 1].iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
        shown[start..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_whole_lines_of_the_end() {
        let mut tail = Tail::default();
        assert_eq!(tail.read(), b"");
        for number in 0..5000 {
            tail.push(format!("line {number}").as_bytes());
            let shown = String::from_utf8(tail.read()).unwrap();
            assert!(shown.len() <= TAIL);
            assert!(shown.starts_with("line ") && shown.ends_with(&format!("line {number}\n")));
        }
        assert!(tail.read().len() > TAIL - 12, "no more is cut than must be");
        assert!(tail.0.len() <= 2 * TAIL);
    }

    #[test]
    fn shows_the_end_of_a_line_that_is_too_long() {
        let mut tail = Tail::default();
        tail.push(&[b'x'; 3 * TAIL]);
        assert_eq!(tail.read().len(), TAIL);
        assert!(tail.read().ends_with(b"x\n"));
    }
}
