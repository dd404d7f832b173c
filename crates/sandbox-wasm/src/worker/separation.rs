//! When tenants are apart.

/// Where instances are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Separation {
    /// In the server while there is one tenant, in workers from the second on.
    #[default]
    Auto,
    /// In workers.
    Always,
    /// In the server.
    Never,
}

impl Separation {
    /// Whether an instance that starts now belongs in its tenant's worker, with so many tenants on the server.
    pub fn applies(self, tenants: usize) -> bool {
        match self {
            Self::Auto => tenants > 1,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Separation::{Always, Auto, Never};

    #[test]
    fn the_second_tenant_puts_all_apart() {
        let applies = |separation: super::Separation| [0, 1, 2, 1000].map(|n| separation.applies(n));
        assert_eq!(applies(Auto), [false, false, true, true]);
        assert_eq!(applies(Always), [true; 4]);
        assert_eq!(applies(Never), [false; 4]);
        assert_eq!(super::Separation::default(), Auto);
    }
}
