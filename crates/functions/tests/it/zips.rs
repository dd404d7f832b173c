//! Archives by hand, since no writer makes hostile ones.

/// One entry of an archive.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) data: Vec<u8>,
    /// 0 stored, 8 deflated (`data` is then the deflated bytes).
    pub(crate) method: u16,
    /// Uncompressed size in the headers.
    pub(crate) declared: u32,
    pub(crate) crc: u32,
    /// Where the directory says the local header is, if not where it is.
    pub(crate) offset: Option<u32>,
}

/// A plain file.
pub(crate) fn file(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        mode: 0o100_644,
        data: data.into(),
        method: 0,
        declared: data.len() as u32,
        crc: crc32(data),
        offset: None,
    }
}

/// An entry with another mode.
pub(crate) fn with_mode(entry: Entry, mode: u32) -> Entry {
    Entry { mode, ..entry }
}

/// A symbolic link.
pub(crate) fn link(name: &str, target: &str) -> Entry {
    with_mode(file(name, target.as_bytes()), 0o120_777)
}

/// The archive.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = entry.offset.unwrap_or(out.len() as u32);
        let common = |out: &mut Vec<u8>| {
            out.extend([20, 0, 0, 8]);
            out.extend(entry.method.to_le_bytes());
            out.extend([0; 4]);
            out.extend(entry.crc.to_le_bytes());
            out.extend((entry.data.len() as u32).to_le_bytes());
            out.extend(entry.declared.to_le_bytes());
            out.extend((entry.name.len() as u16).to_le_bytes());
            out.extend([0; 2]);
        };
        out.extend(b"PK\x03\x04");
        common(&mut out);
        out.extend(&entry.name);
        out.extend(&entry.data);
        directory.extend(b"PK\x01\x02");
        directory.extend([20, 3]);
        common(&mut directory);
        directory.extend([0; 6]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&entry.name);
    }
    let start = out.len() as u32;
    let size = directory.len() as u32;
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([(entries.len() as u16).to_le_bytes(), (entries.len() as u16).to_le_bytes()].concat());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// A package that is fine, different for each text.
pub(crate) fn package(text: &str) -> bytes::Bytes {
    zip(&[file("index.py", text.as_bytes())]).into()
}

pub(crate) fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
