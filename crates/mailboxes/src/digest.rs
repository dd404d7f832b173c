//! MD5 (RFC 1321), which clients of SQS check bodies and attributes with: against accidents, not against anybody.

use std::collections::BTreeMap;

use crate::message::{AttributeValue, Payload};

/// RFC 1321 §3.4: how far each step rotates.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// RFC 1321 §3.4: the integer parts of 2^32 times the sines of 1 to 64.
fn table() -> [u32; 64] {
    std::array::from_fn(|i| ((i as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32)
}

/// The digest in hexadecimal digits.
pub(crate) fn md5(bytes: &[u8]) -> String {
    let table = table();
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks.iter().for_each(|block| step(&mut state, block, &table));
    // §3.1, §3.2: a bit, zeros, and the length in bits.
    let mut tail = [0; 128];
    tail[..rest.len()].copy_from_slice(rest);
    tail[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    tail[end - 8..end].copy_from_slice(&(bytes.len() as u64).wrapping_mul(8).to_le_bytes());
    tail[..end].as_chunks::<64>().0.iter().for_each(|block| step(&mut state, block, &table));
    hex::encode(state.map(u32::to_le_bytes).concat())
}

fn step(state: &mut [u32; 4], block: &[u8; 64], table: &[u32; 64]) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let [mut a, mut b, mut c, mut d] = *state;
    for i in 0..64 {
        let (mixed, word) = match i / 16 {
            0 => ((b & c) | (!b & d), i),
            1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
            2 => (b ^ c ^ d, (3 * i + 5) % 16),
            _ => (c ^ (b | !d), (7 * i) % 16),
        };
        let sum = a.wrapping_add(mixed).wrapping_add(words[word]).wrapping_add(table[i]);
        (a, d, c) = (d, c, b);
        b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
    }
    for (part, add) in state.iter_mut().zip([a, b, c, d]) {
        *part = part.wrapping_add(add);
    }
}

/// The digest of attributes, if there are any (SQS Developer Guide: "Calculating the MD5 message digest for message
/// attributes"): by name, each part with its length in front.
pub(crate) fn of_attributes(attributes: &BTreeMap<String, AttributeValue>) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    let mut part = |text: &[u8], kind: Option<u8>| {
        bytes.extend(kind);
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text);
    };
    for (name, value) in attributes {
        part(name.as_bytes(), None);
        part(value.data_type.as_bytes(), None);
        match &value.value {
            Payload::Text(text) => part(text.as_bytes(), Some(1)),
            Payload::Binary(bytes) => part(bytes, Some(2)),
        }
    }
    Some(md5(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_of_the_rfc() {
        let digits = "1234567890".repeat(8);
        for (text, expect) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (&digits, "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            assert_eq!(md5(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn lengths_around_a_block() {
        for (length, expect) in [
            (55, "ef1772b6dff9a122358552954ad0df65"),
            (56, "3b0c8ac703f828b04c6c197006d17218"),
            (64, "014842d480b571495a4a0363793f7367"),
        ] {
            assert_eq!(md5("a".repeat(length).as_bytes()), expect, "{length}");
        }
    }
}
