//! Counts a guest's linear memories and tables together and refuses growth past its limit.

use wasmtime::ResourceLimiter;

use crate::engine::MAX_INNER;

/// Bytes of an element of a table: a pointer of the host.
const ELEMENT: u64 = 8;

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

    /// Counts so many bytes more, if there is room for them.
    fn take(&mut self, more: u64) -> bool {
        let used = self.used.saturating_add(more);
        if used > self.limit {
            self.refused = true;
            return false;
        }
        self.used = used;
        self.peak = self.peak.max(used);
        true
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.take(desired.saturating_sub(current) as u64))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.take((desired.saturating_sub(current) as u64).saturating_mul(ELEMENT)))
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
    fn tables_count_like_memory() {
        let mut memory = Memory::new(100);
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.table_growing(0, 5, None).unwrap());
        assert!(!memory.table_growing(5, 6, None).unwrap());
        assert_eq!((memory.peak, memory.refused), (100, true));
    }

    #[test]
    fn a_modules_own_maximum_is_not_our_refusal() {
        let mut memory = Memory::new(100);
        assert!(!memory.memory_growing(0, 60, Some(50)).unwrap());
        assert!(!memory.refused);
    }
}
