//! Counts a guest's linear memory and refuses growth past its limit.

use wasmtime::ResourceLimiter;

use crate::engine::MAX_INNER;

/// The memory of one guest.
pub(crate) struct Memory {
    limit: u64,
    used: u64,
    /// Bytes: the most it had.
    pub(crate) peak: u64,
    /// Whether it asked for more than it may have.
    pub(crate) refused: bool,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: 0, peak: 0, refused: false }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let used = self.used.saturating_add(more);
        if used > self.limit || maximum.is_some_and(|maximum| desired > maximum) {
            self.refused |= used > self.limit;
            return Ok(false);
        }
        self.used = used;
        self.peak = self.peak.max(used);
        Ok(true)
    }

    // The pool bounds every table and how many there are.
    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INNER as usize
    }

    fn tables(&self) -> usize {
        MAX_INNER as usize
    }

    fn memories(&self) -> usize {
        MAX_INNER as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_memories_share_one_limit() {
        let mut memory = Memory::new(100);
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.memory_growing(0, 40, None).unwrap());
        assert!(!memory.memory_growing(40, 41, None).unwrap());
        assert_eq!((memory.peak, memory.refused), (100, true));
    }

    #[test]
    fn a_modules_own_maximum_is_not_our_refusal() {
        let mut memory = Memory::new(100);
        assert!(!memory.memory_growing(0, 60, Some(50)).unwrap());
        assert!(!memory.refused);
    }
}
