//! Pages of what is listed in the order of its names. A marker is the last name of the page before, made opaque.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Error, limits};

/// Things with their names, and the marker for the next page where there is one.
pub(super) type Named<'a, T> = (Vec<(&'a String, &'a T)>, Option<String>);

/// The page after `marker`, of so many items at most.
pub(super) fn by_name<'a, T: 'a>(
    things: impl Iterator<Item = (&'a String, &'a T)>,
    marker: Option<&str>,
    max_items: usize,
) -> Result<Named<'a, T>, Error> {
    let after = marker.map(read).transpose()?;
    let mut rest = things.filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after));
    let page: Vec<_> = rest.by_ref().take(max_items.clamp(1, limits::PAGE_ITEMS)).collect();
    let more = rest.next().and(page.last());
    let next = more.map(|(name, _)| write(name));
    Ok((page, next))
}

/// What names a place in a listing, as clients give it back.
pub(super) fn write(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// The place that a marker names.
pub(super) fn read(marker: &str) -> Result<String, Error> {
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.filter(|text| !text.is_empty());
    text.ok_or_else(|| Error::Invalid("The marker was not made by this listing.".into()))
}
