//! What the seven services do: small answers in JSON, some of them slow, some of them errors.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::Role;
use super::http::{self, Calls, Request, Response};
use super::random::{Random, take};

/// Products 1 to this one exist; shoppers now and then ask for others.
pub(super) const PRODUCTS: u32 = 200;
/// Shoppers `u1` to `u<this>`.
pub(super) const USERS: u32 = 200;
/// A cart holds no more than this; the oldest item makes room.
const CART_ITEMS_MAX: usize = 20;

/// 4 in 100 payments fail on our side, 1 in 100 is declined.
const PAYMENT_FAILURES_PER_MILLE: u32 = 40;
const PAYMENTS_DECLINED_PER_MILLE: u32 = 10;
/// 3 in 100 recommendations come from a cold cache.
const COLD_RECOMMENDATIONS_PER_MILLE: u32 = 30;

/// Carts by user; users are few and named by us, anything else is refused.
type Carts = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

pub(super) fn run(role: Role, listener: &TcpListener, calls: &Calls) -> anyhow::Result<()> {
    let carts = Carts::default();
    let service = || {
        let mut desk =
            Desk { calls: calls.clone(), random: Random::new(), carts: Arc::clone(&carts) };
        move |request: &Request| desk.answer(role, request)
    };
    http::serve(listener, role.name(), service)
}

/// What one connection's handler works with.
struct Desk {
    calls: Calls,
    random: Random,
    carts: Carts,
}

impl Desk {
    fn answer(&mut self, role: Role, request: &Request) -> Response {
        let segments = request.segments();
        let call = (request.method.as_str(), segments.as_slice());
        match role {
            Role::Frontend => self.frontend(call, request),
            Role::Catalog => self.catalog(call),
            Role::Recommendations => self.recommendations(call),
            Role::Cart => self.cart(call, &request.body),
            Role::Inventory => self.inventory(call),
            Role::Checkout => self.checkout(call, &request.body),
            Role::Payments => self.payments(call, &request.body),
            Role::Shopper => no_such_page(),
        }
    }

    fn frontend(&mut self, call: (&str, &[&str]), request: &Request) -> Response {
        self.work(Duration::from_micros(600));
        let target = request.target.as_str();
        match call {
            ("GET", []) => {
                let products = self.get("catalog", "/products?page=1");
                let user = 1 + u64::from(self.random.below(USERS));
                let recommended = self.recommended(user);
                page(products, "recommended", recommended)
            }
            ("GET", ["products", id]) => {
                let product = self.get("catalog", target);
                if !product.is_success() {
                    return product;
                }
                let recommended = self.recommended(id.parse().unwrap_or(1));
                page(product, "recommended", recommended)
            }
            ("GET", ["search"]) => self.get("catalog", target),
            ("GET", ["cart", _]) => self.get("cart", target),
            ("POST", ["cart", _, "items"]) => self.post("cart", target, &request.body),
            ("POST", ["checkout"]) => self.post("checkout", target, &request.body),
            _ => no_such_page(),
        }
    }

    /// Nobody gets an error page because recommendations are down.
    fn recommended(&mut self, user: u64) -> Value {
        let answer = self.get("recommendations", &format!("/recommendations/u{user}"));
        if answer.is_success() { answer.body["products"].clone() } else { json!([]) }
    }

    fn catalog(&mut self, call: (&str, &[&str])) -> Response {
        match call {
            ("GET", ["products"]) => {
                self.work(Duration::from_millis(3));
                let first = 1 + self.random.below(PRODUCTS - 8);
                let products: Vec<_> = (first..first + 8).map(product).collect();
                Response::new(200, json!({ "products": products, "total": PRODUCTS }))
            }
            ("GET", ["products", id]) => {
                self.work(Duration::from_millis(2));
                match id.parse().ok().filter(|id| (1..=PRODUCTS).contains(id)) {
                    Some(id) => Response::new(200, product(id)),
                    None => Response::error(404, "no such product"),
                }
            }
            ("GET", ["search"]) => {
                self.work(Duration::from_millis(12));
                let hits = self.random.below(6);
                let products: Vec<_> =
                    (0..hits).map(|_| product(1 + self.random.below(PRODUCTS))).collect();
                Response::new(200, json!({ "products": products }))
            }
            _ => no_such_page(),
        }
    }

    fn recommendations(&mut self, call: (&str, &[&str])) -> Response {
        let ("GET", ["recommendations", user]) = call else { return no_such_page() };
        if self.random.chance(COLD_RECOMMENDATIONS_PER_MILLE) {
            take(self.random.between(Duration::from_millis(400), Duration::from_millis(1200)));
        } else {
            self.work(Duration::from_millis(15));
        }
        let id = 1 + self.random.below(PRODUCTS);
        let found = self.get("catalog", &format!("/products/{id}"));
        if !found.is_success() {
            return Response::error(502, "no answer from the catalog");
        }
        Response::new(200, json!({ "user": user, "products": [found.body] }))
    }

    fn cart(&mut self, call: (&str, &[&str]), body: &Value) -> Response {
        let (method, ["cart", user, rest @ ..]) = call else { return no_such_page() };
        let known = user.strip_prefix('u').and_then(|number| number.parse().ok());
        if !known.is_some_and(|number: u32| (1..=USERS).contains(&number)) {
            return Response::error(404, "no such user");
        }
        self.work(Duration::from_millis(1));
        match (method, rest) {
            ("GET", []) => {
                let items = self.carts(|carts| carts.get(*user).cloned().unwrap_or_default());
                Response::new(200, json!({ "user": user, "items": items }))
            }
            ("DELETE", []) => {
                self.carts(|carts| carts.remove(*user));
                Response::new(204, Value::Null)
            }
            ("POST", ["items"]) => {
                let Some(product) = body["product"].as_u64() else {
                    return Response::error(400, "expected {\"product\": ID}");
                };
                let stock = self.get("inventory", &format!("/stock/{product}"));
                if stock.body["stock"].as_u64().unwrap_or(0) == 0 {
                    return Response::error(409, "sold out");
                }
                let items = self.carts(|carts| {
                    let items = carts.entry((*user).to_owned()).or_default();
                    if items.len() >= CART_ITEMS_MAX {
                        items.remove(0);
                    }
                    items.push(product);
                    items.clone()
                });
                Response::new(201, json!({ "user": user, "items": items }))
            }
            _ => no_such_page(),
        }
    }

    fn inventory(&mut self, call: (&str, &[&str])) -> Response {
        self.work(Duration::from_micros(800));
        match call {
            ("GET", ["stock", id]) => {
                // One in fifty is sold out at any time.
                let stock = if self.random.chance(20) { 0 } else { 1 + self.random.below(90) };
                Response::new(200, json!({ "id": id, "stock": stock }))
            }
            ("POST", ["reservations"]) => {
                let id = format!("r{:016x}", self.random.next());
                Response::new(201, json!({ "reservation": id }))
            }
            _ => no_such_page(),
        }
    }

    fn checkout(&mut self, call: (&str, &[&str]), body: &Value) -> Response {
        let ("POST", ["checkout"]) = call else { return no_such_page() };
        let Some(user) = body["user"].as_str() else {
            return Response::error(400, "expected {\"user\": NAME}");
        };
        self.work(Duration::from_millis(2));
        let cart_path = format!("/cart/{user}");
        let cart = self.get("cart", &cart_path);
        let items = cart.body["items"].as_array().map_or(0, Vec::len);
        if !cart.is_success() || items == 0 {
            return Response::error(409, "nothing in the cart");
        }
        let reservation = self.post("inventory", "/reservations", &cart.body["items"]);
        let amount_cents = items * 1999;
        let payment = json!({ "user": user, "amount_cents": amount_cents });
        let paid = self.post("payments", "/payments", &payment);
        if paid.status == 402 {
            return Response::error(402, "payment declined");
        }
        if !reservation.is_success() || !paid.is_success() {
            return Response::error(502, "payment failed, try again");
        }
        self.calls.call("cart", ("DELETE", &cart_path), USER_AGENT, &Value::Null);
        let receipt = json!({
            "payment": paid.body["payment"],
            "reservation": reservation.body["reservation"],
            "amount_cents": amount_cents,
        });
        Response::new(200, receipt)
    }

    fn payments(&mut self, call: (&str, &[&str]), body: &Value) -> Response {
        let ("POST", ["payments"]) = call else { return no_such_page() };
        if self.random.chance(PAYMENT_FAILURES_PER_MILLE) {
            take(self.random.between(Duration::from_millis(150), Duration::from_millis(300)));
            return Response::error(503, "acquirer does not answer");
        }
        take(self.random.between(Duration::from_millis(30), Duration::from_millis(80)));
        if self.random.chance(PAYMENTS_DECLINED_PER_MILLE) {
            return Response::error(402, "declined");
        }
        let id = format!("p{:016x}", self.random.next());
        Response::new(201, json!({ "payment": id, "amount_cents": body["amount_cents"] }))
    }

    fn work(&mut self, mean: Duration) {
        take(self.random.around(mean));
    }

    fn get(&mut self, peer: &'static str, target: &str) -> Response {
        self.calls.call(peer, ("GET", target), USER_AGENT, &Value::Null)
    }

    /// Calls that change something carry a token: made up, and redacted in what Weir stores.
    fn post(&mut self, peer: &'static str, target: &str, body: &Value) -> Response {
        let token = self.random.next();
        let headers = format!("{USER_AGENT}authorization: Bearer demo-{token:016x}\r\n");
        self.calls.call(peer, ("POST", target), &headers, body)
    }

    fn carts<R>(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u64>>) -> R) -> R {
        change(&mut self.carts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const USER_AGENT: &str = "user-agent: weir-demo/1\r\naccept: application/json\r\n";

fn no_such_page() -> Response {
    Response::error(404, "no such page")
}

fn product(id: u32) -> Value {
    const KINDS: [&str; 5] = ["Rain barrel", "Weir gauge", "Sluice", "Float", "Current meter"];
    let kind = KINDS[id as usize % KINDS.len()];
    json!({ "id": id, "name": format!("{kind} No. {id}"), "price_cents": 500 + id * 37 % 9_000 })
}

/// An answer of another service with one more field.
fn page(mut answer: Response, field: &str, value: Value) -> Response {
    if let Value::Object(fields) = &mut answer.body {
        fields.insert(field.to_owned(), value);
    }
    answer
}
