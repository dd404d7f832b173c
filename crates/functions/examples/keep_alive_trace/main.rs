//! Prints what predictive keep-alive costs on a day's trace beside a fixed ten minutes, as JSON: figure P14.

mod day;

use day::{Cost, Policy, day, simulate};

fn line(cost: &Cost) -> serde_json::Value {
    serde_json::json!({
        "calls": cost.calls,
        "cold": cost.cold,
        "cold_share": cost.cold_share(),
        "warmed_ahead": cost.warmed,
        "machine_seconds_held": cost.held_s,
        "machine_seconds_used": cost.used_s,
        "held_to_used": cost.held_to_used(),
    })
}

fn main() {
    let day = day();
    let fixed = simulate(&day, &Policy::Fixed(600.0));
    let predictive = simulate(&day, &Policy::Predictive(500.0));
    let ratio = predictive.held_to_used() / fixed.held_to_used();
    let answer = serde_json::json!({
        "fixed_600s": line(&fixed),
        "predictive_at_most_500s": line(&predictive),
        "ratio": ratio,
        "cold_share_no_higher": predictive.cold_share() <= fixed.cold_share(),
    });
    println!("{answer:#}");
}
