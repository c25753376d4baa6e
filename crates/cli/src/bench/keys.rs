//! Which row the next request is about.

use quorate_types::Uid;
use rand::Rng;
use rand_distr::{Distribution, Zipf};

/// Draws users. Clones draw alike but from the generator they are given.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    first: u64,
    count: u64,
    /// `None` for uniform.
    zipf: Option<Zipf<f64>>,
}

impl Keys {
    /// `count` users from `first` on, all alike, or by Zipf's law with exponent `theta`: the n-th most
    /// frequent one comes up as often as 1 / n^theta.
    ///
    /// # Errors
    /// Why `theta` makes no sense.
    pub(super) fn new(first: u64, count: u64, theta: Option<f64>) -> Result<Keys, String> {
        let zipf = match theta {
            None => None,
            Some(theta) if theta.is_finite() && 0.0 < theta => Some(
                Zipf::new(count as f64, theta)
                    .map_err(|error| format!("a Zipf exponent of {theta}: {error}"))?,
            ),
            Some(theta) => return Err(format!("{theta} is no Zipf exponent; 0.99 is usual")),
        };
        Ok(Keys { first, count, zipf })
    }

    /// Every user once.
    pub(super) fn all(&self) -> impl Iterator<Item = Uid> + use<> {
        let first = self.first;
        (0..self.count).map(move |place| Uid(first.wrapping_add(place)))
    }

    /// The next user.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Uid {
        let place = match &self.zipf {
            None => rng.random_range(0..self.count),
            // Popular users are spread over all units, not the first of each range.
            Some(zipf) => scattered(zipf.sample(rng) as u64 - 1, self.count),
        };
        Uid(self.first.wrapping_add(place))
    }
}

/// Another order of 0 to `count`, each number once: a step that has no divisor in common with it.
fn scattered(rank: u64, count: u64) -> u64 {
    let step = (count / 2..).find(|step| gcd(*step, count) == 1).unwrap_or(1);
    u64::try_from(u128::from(rank) * u128::from(step) % u128::from(count)).unwrap_or(0)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn every_user_has_one_place() {
        for count in [1, 2, 3, 10, 97, 100, 1000] {
            let places: BTreeSet<u64> = (0..count).map(|rank| scattered(rank, count)).collect();
            assert_eq!(places.len() as u64, count);
        }
    }

    #[test]
    fn all_users_are_those_that_are_drawn() {
        let keys = Keys::new(75, 25, None).expect("valid");
        assert!(keys.all().eq((75..100).map(Uid)));
    }

    #[test]
    fn uniform_is_flat_and_zipf_is_not() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut most = |keys: &Keys| {
            let mut seen: BTreeMap<Uid, u64> = BTreeMap::new();
            for _ in 0..100_000 {
                *seen.entry(keys.draw(&mut rng)).or_default() += 1;
            }
            assert!(seen.keys().all(|uid| (50..1050).contains(&uid.0)));
            seen.into_values().max().unwrap_or(0)
        };
        assert!(most(&Keys::new(50, 1000, None).expect("valid")) < 200);
        assert!(10_000 < most(&Keys::new(50, 1000, Some(0.99)).expect("valid")));
        assert!(Keys::new(50, 1000, Some(-1.0)).is_err());
    }
}
