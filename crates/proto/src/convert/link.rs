//! What is done to links, to and from the wire.

use std::time::Duration;

use quorate_types::Link;
use quorate_types::link::{LINK_DELAY_MAX, LINKS_MAX};

use super::ConvertError;
use crate::v1;

/// The metadata of a stream of requests that names the place its client is in.
pub const NEAR_METADATA: &str = "quorate-near";

/// Links for the wire.
#[must_use]
pub fn links_to_wire(links: &[Link]) -> Vec<v1::Link> {
    let to_wire = |link: &Link| v1::Link {
        from: link.from.clone(),
        to: link.to.clone(),
        delay_us: u64::try_from(link.delay.as_micros()).unwrap_or(u64::MAX),
        cut: link.cut,
    };
    links.iter().map(to_wire).collect()
}

/// Links from the wire. Whether the places exist is not looked at here.
///
/// # Errors
/// Names the field that is wrong.
pub fn links_from_wire(links: Vec<v1::Link>) -> Result<Vec<Link>, ConvertError> {
    let too_large =
        |field: String, value: u64, max: u64| ConvertError::TooLarge { field, value, max };
    if LINKS_MAX < links.len() {
        return Err(too_large("links".to_owned(), links.len() as u64, LINKS_MAX as u64));
    }
    let delay_max = u64::try_from(LINK_DELAY_MAX.as_micros()).unwrap_or(u64::MAX);
    let from_wire = |(index, link): (usize, v1::Link)| {
        if delay_max < link.delay_us {
            return Err(too_large(format!("links[{index}].delay_us"), link.delay_us, delay_max));
        }
        let delay = Duration::from_micros(link.delay_us);
        Ok(Link { from: link.from, to: link.to, delay, cut: link.cut })
    };
    links.into_iter().enumerate().map(from_wire).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_come_back_as_they_were_and_absurd_ones_are_refused() {
        // Goal: a node does to its links what was asked, and holds nothing back for hours.
        let links =
            vec![Link::far("sh", "hz", Duration::from_micros(1_500)), Link::cut("n1", "n2")];
        assert_eq!(links_from_wire(links_to_wire(&links)).ok(), Some(links.clone()));
        let mut wire = links_to_wire(&links);
        wire[1].delay_us = 11_000_000;
        let refused = links_from_wire(wire).expect_err("it is too long").to_string();
        assert!(refused.contains("links[1].delay_us"), "{refused}");
        let many = links_to_wire(&vec![links[0].clone(); LINKS_MAX + 1]);
        assert!(links_from_wire(many).is_err());
    }
}
