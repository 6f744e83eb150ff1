//! How many connections there may be, in all and from one address, so that nobody takes all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::server::network::network;

/// Places for connections.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// The most of one address; none: all.
    most_each: Option<usize>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Those that have none are not in it.
    by_network: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    All,
    /// The address has all that one may have.
    Address,
}

/// A place. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

impl Places {
    /// So many, of which one address has so many at most.
    pub(super) fn new(most: usize, most_each: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_each,
            taken: Mutex::default(),
        })
    }

    /// A place for somebody from an address.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let network = network(address);
        let mut taken = self.taken();
        if taken.all >= self.most {
            return Err(Full::All);
        }
        let of_network = taken.by_network.get(&network).copied().unwrap_or_default();
        if self.most_each.is_some_and(|most| of_network >= most) {
            return Err(Full::Address);
        }
        taken.all += 1;
        taken.by_network.insert(network, of_network + 1);
        Ok(Place {
            places: Arc::clone(self),
            network,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(of_network) = taken.by_network.get_mut(&self.network) {
            *of_network -= 1;
            if *of_network == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_share_and_all_have_all() {
        let (one, other, third) = (at("192.0.2.1"), at("2001:db8::1"), at("192.0.2.3"));
        let places = Places::new(4, Some(2));
        let first = places.take(one).expect("a place");
        let _second = places.take(at("::ffff:192.0.2.1")).expect("a place");
        assert_eq!(places.take(one).err(), Some(Full::Address));
        let _third = places.take(other).expect("a place");
        let fourth = places.take(at("2001:db8::2")).expect("a place");
        assert_eq!(places.take(third).err(), Some(Full::All));
        drop(first);
        assert_eq!(places.take(other).err(), Some(Full::Address));
        let again = places.take(one).expect("a place");
        drop((fourth, again));
        assert!(places.take(third).is_ok());
    }

    #[test]
    fn without_a_share_one_address_may_have_all_and_who_is_gone_is_forgotten() {
        let places = Places::new(3, None);
        let all: Vec<Place> = (0..3).map(|_| places.take(at("192.0.2.1")).expect("a place")).collect();
        assert_eq!(places.take(at("192.0.2.2")).err(), Some(Full::All));
        drop(all);
        assert!(places.taken().by_network.is_empty());
    }
}
