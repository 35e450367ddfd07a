//! Rows of every table, as a busy cluster would give them: the processes, addresses and pods of
//! [`super::shop`], JSON bodies in the layouts of the tables, times that tie, lie on the edges of
//! panes, come late or too late. From a seed, so that a failure can be repeated.

use serde_json::json;
use weir_types::random::SplitMix;
use weir_types::{Column, DataType, Relation, SemanticType, Upid, Value};

use super::rows::{self, BASE_UNIX_NS, SEC_NS};
use super::shop::Shop;
use crate::choices::Choices;
use crate::model::{Arrived, Table};

/// Numbers that one row takes at most; more decisions than that are the first alternative.
const NUMBERS_A_ROW: usize = 96;
/// Event times lie in this stretch after the base.
pub const SPREAD_NS: i64 = 400 * SEC_NS;

/// `count` rows of the table, and a few that no window sees.
#[must_use]
pub fn table(name: &str, relation: &Relation, shop: &Shop, seed: u64, count: usize) -> Table {
    let mut random =
        SplitMix(seed ^ name.bytes().fold(7u64, |hash, b| hash.rotate_left(5) ^ u64::from(b)));
    let rows = (0..count).map(|_| {
        let numbers: Vec<u16> = (0..NUMBERS_A_ROW).map(|_| random.next_u64() as u16).collect();
        row(name, relation, shop, &mut Choices::new(&numbers))
    });
    Table { rows: rows.collect(), relation: relation.clone() }
}

fn row(name: &str, relation: &Relation, shop: &Shop, choices: &mut Choices<'_>) -> Arrived {
    let spread_ms = (SPREAD_NS / 1_000_000) as usize;
    let time_unix_ns = BASE_UNIX_NS
        + match choices.below(8) {
            0 => choices.below(400) as i64 * SEC_NS,
            1 => choices.below(40) as i64 * 10 * SEC_NS + 1,
            _ => (choices.below(spread_ms) * 7 % spread_ms) as i64 * 1_000_000 + 12_345,
        };
    let lateness_ns = match choices.below(16) {
        0 => choices.below(60_000) as i64 * 1_000_000,
        1 => -(choices.below(9_000) as i64) * 1_000_000,
        2 => -11 * SEC_NS,
        _ => 0,
    };
    let leaks = choices.one_in(8);
    let process = if leaks { 0 } else { choices.below(shop.pods.len() + 1) };
    let scene = Scene { table: name, shop, process, leaks, time_unix_ns };
    let row = relation.columns.iter().map(|column| scene.value(column, choices)).collect();
    Arrived { arrival_unix_ns: time_unix_ns + lateness_ns, row }
}

/// What the columns of one row have in common.
struct Scene<'a> {
    table: &'a str,
    shop: &'a Shop,
    /// Number of the pod; one more than there are: a process that nobody knows.
    process: usize,
    /// The first pod sends a mail address to one place outside: rows of several tables that meet.
    leaks: bool,
    time_unix_ns: i64,
}

impl Scene<'_> {
    /// What a leak looks like in the columns that tell it.
    fn leak(&self, column: &str) -> Option<Value> {
        Some(match (self.table, column) {
            (_, "remote_addr") => Value::str("203.0.113.9"),
            (_, "remote_port") => Value::Int64(443),
            (_, "trace_role") | ("conn_stats", "protocol") => Value::Int64(1),
            ("http_events", "req_body") => Value::str("mail a@b.example"),
            _ => return None,
        })
    }

    fn value(&self, column: &Column, choices: &mut Choices<'_>) -> Value {
        if let Some(value) = self.leak(&column.name).filter(|_| self.leaks) {
            return value;
        }
        if column.data_type == DataType::String
            && let Some(text) = self.text(&column.name, choices)
        {
            return Value::String(text.into_bytes());
        }
        match (column.data_type, column.semantic, column.name.as_str()) {
            (DataType::Time64Ns, _, "time_") => Value::Time64Ns(self.time_unix_ns),
            (DataType::Uint128, SemanticType::Upid, _) => Value::Uint128(self.upid(choices).0),
            (DataType::Int64, ..) => Value::Int64(self.number(column, choices)),
            (data_type, ..) => rows::value(data_type, choices),
        }
    }

    fn upid(&self, choices: &mut Choices<'_>) -> Upid {
        match self.shop.pods.get(self.process) {
            Some(pod) => choices.pick(&pod.upids),
            None => Upid::new(9, 4_242, 1),
        }
    }

    fn number(&self, column: &Column, choices: &mut Choices<'_>) -> i64 {
        match (column.name.as_str(), column.semantic) {
            ("trace_role", _) => choices.pick(&[2, 2, 1, 1, 4]),
            ("latency", _) => {
                let scale = choices.pick(&[1_000, 50_000, 1_000_000]);
                choices.below(5_000) as i64 * scale
            }
            ("resp_status", _) if self.table == "mysql_events" => choices.pick(&[2, 2, 3, 1]),
            ("resp_status", _) => choices.pick(&[200, 200, 200, 204, 404, 500, 503]),
            ("req_cmd", _) if self.table.starts_with("kafka") => choices.pick(&[0, 1, 3, 11, 14]),
            ("req_cmd", _) => choices.pick(&[3, 3, 0x17, 0x16, 14]),
            ("req_op", _) => choices.pick(&[7, 9, 10, 5]),
            ("resp_op", _) => choices.pick(&[8, 8, 0, 6]),
            ("req_class_id" | "resp_class_id", _) => choices.pick(&[60, 50, 10, 99]),
            ("req_method_id" | "resp_method_id", _) => choices.pick(&[40, 60, 10, 11, 31]),
            ("frame_type", _) => choices.pick(&[1, 2, 3, 8]),
            ("protocol", _) => choices.pick(&[1, 3, 5, 7, 10, 0]),
            ("addr_family", _) => choices.pick(&[1, 2]),
            ("local_port" | "remote_port", _) => {
                choices.pick(&[80, 8080, 5432, 40_001, 40_002, -1])
            }
            ("pid" | "ppid", _) => 100 * (1 + choices.below(8)) as i64,
            ("pid_start_time" | "ppid_start_time", _) => {
                5_000 + 100 * (1 + choices.below(8)) as i64
            }
            ("req_type", _) => choices.pick(&[1, 2, -2, 65, 0x16]),
            ("status", _) => choices.pick(&[0, 0, 7, 9]),
            (_, SemanticType::DurationNs) => choices.below(60_000) as i64 * 1_000_000,
            (_, SemanticType::Bytes) => choices.below(60_000) as i64 * 64,
            _ => choices.below(30) as i64,
        }
    }

    /// Texts with a meaning; `None`: any value will do.
    fn text(&self, column: &str, choices: &mut Choices<'_>) -> Option<String> {
        Some(match (self.table, column) {
            (_, "remote_addr" | "src_ip" | "dst_ip") => self.address(choices),
            (_, "local_addr") => match self.shop.pods.get(self.process) {
                Some(pod) => pod.ip.clone(),
                None => "127.0.0.1".to_string(),
            },
            (_, "pod_id") => match self.shop.pods.get(self.process) {
                Some(pod) => pod.id.clone(),
                None => "no-such-pod".to_string(),
            },
            ("http_events", _) => return http(column, choices),
            ("mysql_events" | "pgsql_events", "req_body" | "req") => sql(choices),
            ("pgsql_events", "req_cmd") => choices.pick(&["Query", "Execute", "Parse"]).to_string(),
            ("redis_events", "req_cmd") => {
                choices.pick(&["GET", "SET", "LPUSH", "push"]).to_string()
            }
            ("dns_events", _) => dns(column, choices)?,
            ("kafka_events.beta", "client_id") => {
                choices.pick(&["front", "billing", ""]).to_string()
            }
            ("kafka_events.beta", _) => kafka(choices),
            ("amqp_events", _) => amqp(choices),
            ("mongodb_events", "req_cmd") => choices.pick(&["find", "insert"]).to_string(),
            ("stack_traces.beta", "stack_trace") => {
                choices.pick(&["main;serve;parse", "main;serve;[k] write", "main;idle"]).to_string()
            }
            (_, "status") if self.table.starts_with("Get") => "{}".to_string(),
            (_, "d1") => choices.pick(&["etc", "/", "tmp"]).to_string(),
            (_, "d2") => choices.pick(&["/", "home"]).to_string(),
            (_, "filename" | "file") => choices.pick(&["hosts", "a"]).to_string(),
            _ => return None,
        })
    }

    fn address(&self, choices: &mut Choices<'_>) -> String {
        let pod = |choices: &mut Choices<'_>| {
            self.shop.pods[choices.below(self.shop.pods.len())].ip.clone()
        };
        match choices.below(10) {
            0..=4 => pod(choices),
            5 | 6 => choices.pick(&self.shop.service_ips),
            7 => choices.pick(&["203.0.113.9", "203.0.113.10", "2001:db8::7"]).to_string(),
            8 => choices.pick(&["127.0.0.1", "0.0.0.0", "::1"]).to_string(),
            _ => choices.pick(&["-", "10.1.0.250", "198.51.100.7"]).to_string(),
        }
    }
}

fn http(column: &str, choices: &mut Choices<'_>) -> Option<String> {
    Some(match column {
        "req_path" => match choices.below(6) {
            0 => format!("/item/{}", choices.below(40)),
            1 => format!("/item/{}/price?cur=eur", choices.below(40)),
            2 => "/healthz".to_string(),
            3 => "/readyz".to_string(),
            4 => "/cart".to_string(),
            _ => "/".to_string(),
        },
        "req_method" => choices.pick(&["GET", "POST", "PUT"]).to_string(),
        "req_headers" | "resp_headers" => {
            let trace = format!("00-{:032x}-00f067aa0ba902b7-01", choices.below(5));
            json!({"Host": "shop", "Content-Type": "application/json", "traceparent": trace})
                .to_string()
        }
        "req_body" | "resp_body" => {
            choices.pick(&["{\"sku\":1}", "", "mail a@b.example from 10.0.0.9"]).to_string()
        }
        "resp_message" => choices.pick(&["OK", "Not Found", ""]).to_string(),
        _ => return None,
    })
}

fn sql(choices: &mut Choices<'_>) -> String {
    let number = choices.below(50);
    match choices.below(5) {
        0 => format!("SELECT * FROM items WHERE id = {number}"),
        1 => format!("INSERT INTO carts VALUES ({number}, 'a''b', 1.5)"),
        2 => format!("query=[SELECT * FROM items WHERE id = $1] params=[{number}]"),
        3 => "SELECT FROM WHERE".to_string(),
        _ => "COMMIT".to_string(),
    }
}

fn dns(column: &str, choices: &mut Choices<'_>) -> Option<String> {
    let name = choices.pick(&[
        "cart.shop.svc.cluster.local",
        "pay.example.com",
        "api.example.org.shop.svc.cluster.local",
        "db",
    ]);
    Some(match column {
        "req_header" | "resp_header" => json!({
            "txid": choices.below(9), "qr": 1, "opcode": 0, "aa": 0, "tc": 0, "rd": 1, "ra": 1,
            "ad": 0, "cd": 0, "rcode": choices.pick(&[0, 0, 3, 2]), "num_queries": 1,
            "num_answers": 1, "num_auth": 0, "num_addl": 0,
        })
        .to_string(),
        "req_body" => {
            json!({"queries": [{"name": name, "type": choices.pick(&["A", "AAAA"])}]}).to_string()
        }
        "resp_body" => match choices.below(3) {
            0 => json!({"answers": []}).to_string(),
            _ => {
                json!({"answers": [{"name": name, "type": "A", "addr": "203.0.113.9"}]}).to_string()
            }
        },
        _ => return None,
    })
}

fn kafka(choices: &mut Choices<'_>) -> String {
    let topic = choices.pick(&["orders", "audit"]);
    let offset = choices.below(6);
    match choices.below(5) {
        0 | 1 => {
            let partition = |index: usize| {
                json!({"index": index, "message_set": {"size": 10 * (index + 1)},
                       "fetch_offset": offset, "base_offset": offset})
            };
            json!({"topics": [{"name": topic, "partitions": [partition(0), partition(1)]}]})
                .to_string()
        }
        2 => json!({"group_id": "billing", "generation_id": choices.below(4),
                    "member_id": choices.pick(&["m-1", "m-2"])})
        .to_string(),
        3 => json!({"topics": [{"name": topic, "partitions": []}, {"name": "other"}]}).to_string(),
        _ => String::new(),
    }
}

fn amqp(choices: &mut Choices<'_>) -> String {
    json!({"body_size": choices.below(900), "routing_key": choices.pick(&["orders", "mail"]),
           "exchange": "x", "queue": "q", "consumer_tag": choices.pick(&["c1", "c2"])})
    .to_string()
}
