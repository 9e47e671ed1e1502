//! Key Vault's service limits: per ten seconds, weighted by the size of the key, for each Key Vault and five times as
//! much for all Key Vaults of the subscription.
//! Source: learn.microsoft.com/azure/key-vault/general/service-limits.

use std::collections::HashMap;

const WINDOW_SECONDS: i64 = 10;
/// So many times the limit of one Key Vault.
const SUBSCRIPTION: f64 = 5.0;

/// What a request costs.
pub(crate) struct Cost {
    pub create: bool,
    pub hsm: bool,
    /// 0 where no RSA key is involved.
    pub rsa_bits: usize,
}

/// What has been used of the current window.
#[derive(Default)]
pub(crate) struct Limits {
    window: i64,
    vaults: HashMap<String, Used>,
    subscription: Used,
}

/// Parts of one Key Vault's limit.
#[derive(Default)]
struct Used {
    creates: f64,
    others: f64,
}

impl Limits {
    /// Books the request and says whether it fits. A refused request is not booked. `share` is the part of Azure's
    /// limits that is granted.
    pub fn admit(&mut self, vault: &str, now: i64, share: f64, cost: &Cost) -> bool {
        let window = now.div_euclid(WINDOW_SECONDS);
        if self.window != window {
            *self = Self { window, ..Self::default() };
        }
        let weight = 1.0 / (allowed(cost) * share);
        let vault = self.vaults.entry(vault.to_ascii_lowercase()).or_default().of(cost);
        let subscription = self.subscription.of(cost);
        // Sums of fractions fall short of the limit by a rounding error; half a request is far above it.
        if *vault + weight / 2.0 > 1.0 || *subscription + weight / 2.0 > SUBSCRIPTION {
            return false;
        }
        *vault += weight;
        *subscription += weight;
        true
    }
}

impl Used {
    fn of(&mut self, cost: &Cost) -> &mut f64 {
        if cost.create { &mut self.creates } else { &mut self.others }
    }
}

fn allowed(cost: &Cost) -> f64 {
    match (cost.create, cost.hsm, cost.rsa_bits) {
        (true, true, _) => 10.0,
        (true, false, _) => 20.0,
        (false, true, 3072) => 500.0,
        (false, true, 4096) => 250.0,
        (false, true, _) => 2000.0,
        (false, false, 3072) => 1000.0,
        (false, false, 4096) => 500.0,
        (false, false, _) => 4000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_operations_fit_into_ten_seconds_and_no_more() {
        let mut limits = Limits::default();
        let cost = Cost { create: false, hsm: false, rsa_bits: 4096 };
        let fitting = (0..600).filter(|_| limits.admit("v", 1000, 1.0, &cost)).count();
        assert_eq!(fitting, 500);
        assert!(limits.admit("other", 1000, 1.0, &cost));
        assert!(limits.admit("v", 1010, 1.0, &cost));
    }

    #[test]
    fn all_key_vaults_together_have_five_times_the_limit_of_one() {
        let mut limits = Limits::default();
        let cost = Cost { create: true, hsm: false, rsa_bits: 4096 };
        let fitting = (0..200).filter(|at| limits.admit(&format!("v{}", at % 10), 0, 1.0, &cost)).count();
        assert_eq!(fitting, 100);
    }
}
