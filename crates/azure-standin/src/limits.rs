//! Key Vault's service limits: per Key Vault and ten seconds, weighted by the size of the key.
//! Source: learn.microsoft.com/azure/key-vault/general/service-limits.

use std::collections::HashMap;

const WINDOW_SECONDS: i64 = 10;

/// What a request costs.
pub(crate) struct Cost {
    pub create: bool,
    pub hsm: bool,
    /// 0 where no RSA key is involved.
    pub rsa_bits: usize,
}

/// How much of its quota each Key Vault has used in the current window.
#[derive(Default)]
pub(crate) struct Limits(HashMap<String, Window>);

#[derive(Default)]
struct Window {
    number: i64,
    creates: f64,
    others: f64,
}

impl Limits {
    /// Books the request and says whether it fits. A refused request is not booked. `share` is the part of Azure's
    /// limits that is granted.
    pub fn admit(&mut self, vault: &str, now: i64, share: f64, cost: &Cost) -> bool {
        let window = self.0.entry(vault.to_ascii_lowercase()).or_default();
        let number = now.div_euclid(WINDOW_SECONDS);
        if window.number != number {
            *window = Window { number, ..Window::default() };
        }
        let used = if cost.create { &mut window.creates } else { &mut window.others };
        let weight = 1.0 / (allowed(cost) * share);
        // Sums of fractions fall short of 1 by a rounding error; half a request is far above it.
        if *used + weight > 1.0 + weight / 2.0 {
            return false;
        }
        *used += weight;
        true
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
}
