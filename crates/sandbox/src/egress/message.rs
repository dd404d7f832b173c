//! DNS messages, as much of them as is needed to pass them on knowingly. Pure.
//!
//! Source: RFC 1035. Queries of one question in class IN are read; answers are searched for addresses and otherwise
//! left as they came. A message that does not parse is nobody's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Record types.
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
/// Response codes.
pub(super) const SERVER_FAILURE: u8 = 2;
pub(super) const NO_SUCH_NAME: u8 = 3;
pub(super) const NOT_IMPLEMENTED: u8 = 4;

const HEADER: usize = 12;
/// Of the second pair of bytes: this is an answer; the operation; truncated; recursion desired, available.
const ANSWER: u8 = 0x80;
const OPERATION: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const DESIRED: u8 = 0x01;
const AVAILABLE: u8 = 0x80;
const CLASS_IN: u16 = 1;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// In lower case, without a dot at its end; a byte that no host name has is a backslash and its number.
    pub(super) name: String,
    /// Record type.
    pub(super) kind: u16,
    /// Where what follows begins.
    end: usize,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Response code.
    pub(super) code: u8,
    /// Whether there is more, by TCP.
    pub(super) truncated: bool,
    /// Addresses with the seconds that they hold.
    pub(super) addresses: Vec<(IpAddr, u32)>,
}

/// Reads a query. `None`: not a query of one question.
pub(super) fn question(query: &[u8]) -> Option<Question> {
    let operation = *query.get(2)?;
    (operation & (ANSWER | OPERATION) == 0).then(|| first_question(query)).flatten()
}

fn first_question(message: &[u8]) -> Option<Question> {
    if number(message, 4)? != 1 {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // No pointer: there is nothing before the first name to point to.
        if length > 63 || name.len() > 255 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in message.get(at..at + length)? {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {
                    name.push(byte.to_ascii_lowercase().into())
                }
                other => name.push_str(&format!("\\{other:03}")),
            }
        }
        at += length;
    }
    let (kind, class) = (number(message, at)?, number(message, at + 2)?);
    (class == CLASS_IN).then_some(Question { name, kind, end: at + 4 })
}

/// A query for a name. `None`: it cannot be asked for.
pub(super) fn query(name: &str, kind: u16) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut message = vec![0, 0, DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    (name.len() <= 253).then_some(message)
}

/// Puts another number on a message.
pub(super) fn renumber(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id);
    }
}

/// An answer without records to a query, whatever could be read of it. `None`: too short to be answered.
pub(super) fn refusal(query: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut answer = query.get(..HEADER)?.to_vec();
    let question = question(query).and_then(|question| query.get(HEADER..question.end));
    answer[2] = ANSWER | (query[2] & (OPERATION | DESIRED));
    answer[3] = AVAILABLE | code;
    answer[4..].fill(0);
    if let Some(question) = question {
        answer[5] = 1;
        answer.extend_from_slice(question);
    }
    Some(answer)
}

/// Reads an answer to this query. `None`: it is not one.
pub(super) fn answer(query: &[u8], answer: &[u8]) -> Option<Answer> {
    let (asked, answered) = (question(query)?, first_question(answer)?);
    let flags = [*answer.get(2)?, *answer.get(3)?];
    if answer.get(..2) != query.get(..2) || flags[0] & ANSWER == 0 || asked != answered {
        return None;
    }
    let mut addresses = Vec::new();
    let mut at = answered.end;
    for _ in 0..number(answer, 6)? {
        at = past_name(answer, at)?;
        let (kind, class) = (number(answer, at)?, number(answer, at + 2)?);
        let ttl = (u32::from(number(answer, at + 4)?) << 16) | u32::from(number(answer, at + 6)?);
        let length = usize::from(number(answer, at + 8)?);
        let data = answer.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        let address = match (kind, class) {
            (A, CLASS_IN) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
            (AAAA, CLASS_IN) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
            _ => continue,
        };
        addresses.push((address, ttl));
    }
    Some(Answer { code: flags[1] & 0x0f, truncated: flags[0] & TRUNCATED != 0, addresses })
}

fn past_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + length,
            // A pointer ends a name; where it leads does not matter here.
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these records, their names pointers to the question's.
    fn answered(query: &[u8], records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut message = refusal(query, 0).unwrap();
        message[7] = records.len() as u8;
        for (kind, ttl, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    #[test]
    fn questions_are_read() {
        let asked = question(&query("WWW.Example.com.", AAAA).unwrap()).unwrap();
        assert_eq!((asked.name.as_str(), asked.kind), ("www.example.com", AAAA));
        let mut odd = query("a.b", A).unwrap();
        odd[13] = b'.';
        assert_eq!(question(&odd).unwrap().name, "\\046.b", "a dot in a label is no dot");
        let good = query("a.b", A).unwrap();
        for length in 0..good.len() {
            assert_eq!(question(&good[..length]), None);
        }
        for (at, value) in [(2, 0x80), (2, 0x28), (5, 2), (5, 0), (12, 0xc0), (12, 64), (good.len() - 1, 3)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(question(&bad), None, "{at} {value}");
        }
        assert_eq!(query("a..b", A), None);
        assert_eq!(query("", A), None);
        assert_eq!(query(&"a".repeat(64), A), None);
        assert_eq!(query(&"a.".repeat(140), A), None);
    }

    #[test]
    fn addresses_are_found() {
        let asked = query("a.b", A).unwrap();
        let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let message =
            answered(&asked, &[(5, 9, &[1, b'c', 0]), (A, 60, &[1, 2, 3, 4]), (AAAA, 1 << 20, &six)]);
        let found = answer(&asked, &message).unwrap();
        assert_eq!((found.code, found.truncated), (0, false));
        assert_eq!(
            found.addresses,
            [("1.2.3.4".parse().unwrap(), 60), ("2001:db8::1".parse().unwrap(), 1 << 20)]
        );
        for length in 0..message.len() {
            assert_eq!(answer(&asked, &message[..length]), None, "{length}");
        }
    }

    #[test]
    fn what_answers_something_else_is_nobodys() {
        let asked = query("a.b", A).unwrap();
        let message = answered(&asked, &[(A, 60, &[1, 2, 3, 4])]);
        for (at, value) in [(0, 1), (2, 0), (13, b'x'), (asked.len() - 3, 28)] {
            let mut bad = message.clone();
            bad[at] = value;
            assert_eq!(answer(&asked, &bad), None, "{at} {value}");
        }
        assert_eq!(answer(&asked, &answered(&asked, &[(A, 60, &[1, 2, 3])])), None);
    }

    #[test]
    fn refusals_repeat_the_question() {
        let mut asked = query("a.b", A).unwrap();
        renumber(&mut asked, [7, 8]);
        let refused = refusal(&asked, NO_SUCH_NAME).unwrap();
        assert_eq!(refused[..2], [7, 8]);
        let found = answer(&asked, &refused).unwrap();
        assert_eq!((found.code, found.addresses.len()), (NO_SUCH_NAME, 0));
        assert_eq!(refusal(&asked[..5], NO_SUCH_NAME), None);
        assert_eq!(refusal(&[0; 12], NOT_IMPLEMENTED).unwrap()[3], AVAILABLE | NOT_IMPLEMENTED);
    }
}
