//! What a program in a jail sees, may do, and how it ends.

mod bounds;
mod ends;
mod image;
mod reach;
mod view;
mod walls;

use crate::world::Case;

/// By theme.
pub(crate) const CASES: &[&[Case]] =
    &[view::CASES, walls::CASES, bounds::CASES, ends::CASES, image::CASES, reach::CASES];
