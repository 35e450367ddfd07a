//! The methods of AMQP 0-9-1 and of RabbitMQ's extensions, by their numbers.

use super::types::By::{Both, Client, Server};
use super::types::{By, Method};

const fn method(
    (class_id, method_id): (u16, u16),
    by: By,
    answers: &'static [u16],
    arguments: &'static str,
) -> Method {
    Method { class_id, method_id, by, answers, has_content: false, arguments }
}

const fn with_content(mut method: Method) -> Method {
    method.has_content = true;
    method
}

const CLOSE: &str = "reply_code:h reply_text:s class_id:h method_id:h";
const TUNE: &str = "channel_max:h frame_max:l heartbeat:h";
const EXCHANGE_BIND: &str = "_:h destination:s source:s routing_key:s no_wait:b arguments:t";

/// In the order of their numbers.
static METHODS: [Method; 66] = [
    method(
        (10, 10),
        Server,
        &[11],
        "version_major:o version_minor:o server_properties:t mechanisms:S locales:S",
    ),
    method((10, 11), Client, &[], "client_properties:t mechanism:s response:X locale:s"),
    method((10, 20), Server, &[21], "challenge:X"),
    method((10, 21), Client, &[], "response:X"),
    method((10, 30), Server, &[31], TUNE),
    method((10, 31), Client, &[], TUNE),
    method((10, 40), Client, &[41], "virtual_host:s _:s _:b"),
    method((10, 41), Server, &[], "_:s"),
    method((10, 50), Both, &[51], CLOSE),
    method((10, 51), Both, &[], ""),
    method((10, 60), Server, &[], "reason:s"),
    method((10, 61), Server, &[], ""),
    method((10, 70), Client, &[71], "new_secret:X reason:s"),
    method((10, 71), Server, &[], ""),
    method((20, 10), Client, &[11], "_:s"),
    method((20, 11), Server, &[], "_:S"),
    method((20, 20), Both, &[21], "active:b"),
    method((20, 21), Both, &[], "active:b"),
    method((20, 40), Both, &[41], CLOSE),
    method((20, 41), Both, &[], ""),
    method((30, 10), Client, &[11], "realm:s exclusive:b passive:b active:b write:b read:b"),
    method((30, 11), Server, &[], "_:h"),
    method(
        (40, 10),
        Client,
        &[11],
        "_:h exchange:s type:s passive:b durable:b auto_delete:b internal:b no_wait:b arguments:t",
    ),
    method((40, 11), Server, &[], ""),
    method((40, 20), Client, &[21], "_:h exchange:s if_unused:b no_wait:b"),
    method((40, 21), Server, &[], ""),
    method((40, 30), Client, &[31], EXCHANGE_BIND),
    method((40, 31), Server, &[], ""),
    method((40, 40), Client, &[51], EXCHANGE_BIND),
    method((40, 51), Server, &[], ""),
    method(
        (50, 10),
        Client,
        &[11],
        "_:h queue:s passive:b durable:b exclusive:b auto_delete:b no_wait:b arguments:t",
    ),
    method((50, 11), Server, &[], "queue:s message_count:l consumer_count:l"),
    method((50, 20), Client, &[21], "_:h queue:s exchange:s routing_key:s no_wait:b arguments:t"),
    method((50, 21), Server, &[], ""),
    method((50, 30), Client, &[31], "_:h queue:s no_wait:b"),
    method((50, 31), Server, &[], "message_count:l"),
    method((50, 40), Client, &[41], "_:h queue:s if_unused:b if_empty:b no_wait:b"),
    method((50, 41), Server, &[], "message_count:l"),
    method((50, 50), Client, &[51], "_:h queue:s exchange:s routing_key:s arguments:t"),
    method((50, 51), Server, &[], ""),
    method((60, 10), Client, &[11], "prefetch_size:l prefetch_count:h global:b"),
    method((60, 11), Server, &[], ""),
    method(
        (60, 20),
        Client,
        &[21],
        "_:h queue:s consumer_tag:s no_local:b no_ack:b exclusive:b no_wait:b arguments:t",
    ),
    method((60, 21), Server, &[], "consumer_tag:s"),
    method((60, 30), Both, &[31], "consumer_tag:s no_wait:b"),
    method((60, 31), Both, &[], "consumer_tag:s"),
    with_content(method(
        (60, 40),
        Client,
        &[],
        "_:h exchange:s routing_key:s mandatory:b immediate:b",
    )),
    with_content(method(
        (60, 50),
        Server,
        &[],
        "reply_code:h reply_text:s exchange:s routing_key:s",
    )),
    with_content(method(
        (60, 60),
        Server,
        &[],
        "consumer_tag:s delivery_tag:q redelivered:b exchange:s routing_key:s",
    )),
    method((60, 70), Client, &[71, 72], "_:h queue:s no_ack:b"),
    with_content(method(
        (60, 71),
        Server,
        &[],
        "delivery_tag:q redelivered:b exchange:s routing_key:s message_count:l",
    )),
    method((60, 72), Server, &[], "_:s"),
    method((60, 80), Both, &[], "delivery_tag:q multiple:b"),
    method((60, 90), Client, &[], "delivery_tag:q requeue:b"),
    method((60, 100), Client, &[], "requeue:b"),
    method((60, 110), Client, &[111], "requeue:b"),
    method((60, 111), Server, &[], ""),
    method((60, 120), Both, &[], "delivery_tag:q multiple:b requeue:b"),
    method((85, 10), Client, &[11], "no_wait:b"),
    method((85, 11), Server, &[], ""),
    method((90, 10), Client, &[11], ""),
    method((90, 11), Server, &[], ""),
    method((90, 20), Client, &[21], ""),
    method((90, 21), Server, &[], ""),
    method((90, 30), Client, &[31], ""),
    method((90, 31), Server, &[], ""),
];

pub(super) fn find(class_id: u16, method_id: u16) -> Option<&'static Method> {
    let key = (class_id, method_id);
    let at =
        METHODS.binary_search_by_key(&key, |method| (method.class_id, method.method_id)).ok()?;
    Some(&METHODS[at])
}

/// Whether a method answers another one.
pub(super) fn is_answer(class_id: u16, method_id: u16) -> bool {
    METHODS.iter().any(|method| method.class_id == class_id && method.answers.contains(&method_id))
}
