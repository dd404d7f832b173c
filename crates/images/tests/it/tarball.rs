//! Archives as somebody with bad intentions writes them: no check stands between a test and the bytes.

/// An archive on its way.
#[derive(Default)]
pub(crate) struct Tarball(Vec<u8>);

impl Tarball {
    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(path, b'0', "", 0o644, content)
    }

    pub(crate) fn folder(self, path: &str) -> Self {
        self.entry(path, b'5', "", 0o755, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, b'1', target, 0o644, b"")
    }

    pub(crate) fn entry(self, path: &str, kind: u8, link: &str, mode: u32, content: &[u8]) -> Self {
        self.lying(path, kind, link, mode, content, content.len() as u64)
    }

    /// An entry whose header states a size of its own.
    pub(crate) fn lying(
        mut self,
        path: &str,
        kind: u8,
        link: &str,
        mode: u32,
        content: &[u8],
        size: u64,
    ) -> Self {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[136..147].copy_from_slice(format!("{:011o}", 1_000_000_000).as_bytes());
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The archive's bytes, ended as they should be.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    /// The archive's bytes as they are.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.0
    }
}
