//! The crowd: a few threads that browse, search, fill carts and pay, at about 13 pages a second,
//! which is some 65 requests a second over the whole shop. The rate swings slowly, so that charts
//! have something to show.

use std::time::Duration;

use serde_json::{Value, json};
use weir_types::{Clock as _, WallClock};

use super::http::Calls;
use super::random::{Random, take};
use super::services::{PRODUCTS, USERS};

const SHOPPERS: usize = 8;
/// Between two pages of one shopper.
const THINK_MEAN: Duration = Duration::from_millis(600);
/// The think time swings by this share over this period.
const SWING: f64 = 0.35;
const SWING_PERIOD: Duration = Duration::from_secs(90);
/// Then a shopper leaves, and another one comes with a new connection.
const VISIT_PAGES: u32 = 60;

pub(super) fn run(calls: &Calls) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        for _ in 0..SHOPPERS {
            let calls = calls.clone();
            std::thread::Builder::new()
                .name("shopper".into())
                .stack_size(256 << 10)
                .spawn_scoped(scope, move || shop(&calls))?;
        }
        Ok(())
    })
}

/// Visit after visit, until the process ends.
fn shop(calls: &Calls) {
    let mut random = Random::new();
    loop {
        let mut visit = calls.clone();
        let user = 1 + random.below(USERS);
        let mut cart_filled = false;
        let session = format!("cookie: session=demo-{:016x}\r\n", random.next());
        for left in (0..VISIT_PAGES).rev() {
            think(&mut random);
            let mut headers = format!("user-agent: shopper/1\r\naccept: */*\r\n{session}");
            if left == 0 {
                headers.push_str("connection: close\r\n");
            }
            let (method, target, body) = next_page(&mut random, user, &mut cart_filled);
            visit.call("frontend", (method, &target), &headers, &body);
        }
    }
}

fn think(random: &mut Random) {
    let period_ns = SWING_PERIOD.as_nanos() as f64;
    let turns = WallClock.now_unix_ns() as f64 / period_ns;
    let swing = 1.0 + SWING * (turns.fract() * std::f64::consts::TAU).sin();
    take(random.around(THINK_MEAN.mul_f64(swing)));
}

fn next_page(
    random: &mut Random,
    user: u32,
    cart_filled: &mut bool,
) -> (&'static str, String, Value) {
    const WORDS: [&str; 6] = ["barrel", "gauge", "float", "sluice", "meter", "umbrella"];
    match random.below(100) {
        0..25 => ("GET", "/".to_owned(), Value::Null),
        25..58 => {
            // A little beyond the last one: old links lead nowhere.
            let product = 1 + random.below(PRODUCTS + 12);
            ("GET", format!("/products/{product}"), Value::Null)
        }
        58..66 => {
            let word = WORDS[random.below(6) as usize];
            ("GET", format!("/search?q={word}"), Value::Null)
        }
        66..73 => ("GET", format!("/cart/u{user}"), Value::Null),
        73..86 if *cart_filled => {
            *cart_filled = false;
            ("POST", "/checkout".to_owned(), json!({ "user": format!("u{user}") }))
        }
        _ => {
            *cart_filled = true;
            let product = 1 + random.below(PRODUCTS);
            ("POST", format!("/cart/u{user}/items"), json!({ "product": product, "quantity": 1 }))
        }
    }
}
