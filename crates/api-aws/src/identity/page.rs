//! Pages of IAM's listings: `Marker` and `MaxItems`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::constraint::Violations;
use crate::failure::Failure;
use crate::query::{Form, Xml, validation};

/// Items of one page, and where the next one begins.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    marker: Option<String>,
}

/// The items that `Marker` and `MaxItems` ask for, in the order of their keys, which are unique.
pub(super) fn page<T>(
    form: &Form,
    mut items: Vec<T>,
    key: impl Fn(&T) -> String,
) -> Result<Page<T>, Failure> {
    let most = form.integer("MaxItems")?.unwrap_or(100);
    let mut violations = Violations::default();
    violations.range("maxItems", most, 1, 1000);
    if let Some(message) = violations.message() {
        return Err(validation(message));
    }
    let after = form.text("Marker").map(|marker| read(&marker)).transpose()?;
    items.retain(|item| after.as_ref().is_none_or(|after| key(item) > *after));
    items.sort_by_cached_key(&key);
    let most = usize::try_from(most).unwrap_or(100);
    let more = items.len() > most;
    items.truncate(most);
    let marker = items.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
    Ok(Page { items, marker })
}

fn read(marker: &str) -> Result<String, Failure> {
    let text = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| validation("Invalid Marker: it was not made by this listing."))
}

impl<T> Page<T> {
    /// What follows the items.
    pub(super) fn end(&self, xml: &mut Xml) {
        xml.text("IsTruncated", self.marker.is_some().to_string()).maybe("Marker", self.marker.as_deref());
    }
}
