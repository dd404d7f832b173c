//! Figure P14 as a promise: on a day's trace, predicting costs half of keeping for ten minutes, and no colder starts.

#[path = "../../examples/keep_alive_trace/day.rs"]
mod day;

use day::{Policy, day, simulate};

#[test]
fn predicting_holds_half_of_what_ten_minutes_hold_and_starts_cold_no_more_often() {
    let day = day();
    let fixed = simulate(&day, &Policy::Fixed(600.0));
    let predictive = simulate(&day, &Policy::Predictive(500.0));
    assert!(predictive.held_to_used() <= 0.5 * fixed.held_to_used(), "{fixed:?} {predictive:?}");
    assert!(predictive.cold_share() <= fixed.cold_share(), "{fixed:?} {predictive:?}");
    assert!(predictive.warmed > 0);
}
