//! Randomness for keys, nonces and secrets: the operating system's.

/// Unpredictable bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Fails only on kernels without getrandom(2), which no sandbox of ours runs on either; and to go on
    // without randomness would hand out keys that can be guessed.
    getrandom::fill(&mut bytes).expect("the operating system has no randomness");
    bytes
}

/// `N` characters of base32's alphabet, as access key ids are written.
pub(crate) fn base32<const N: usize>() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    bytes::<N>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}
