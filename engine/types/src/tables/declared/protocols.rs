//! Tables of protocol exchanges: one row a request with its response.

use super::{cell, column, declare};
use crate::batch::BatchBuilder;
use crate::tables::HistoryBudget::{Percent, Share};
use crate::tables::endpoints::{self, Endpoints};
use crate::tables::typed::Cells;
use crate::tables::{Table, TableDef};

pub(super) const PROTOCOLS: [TableDef; 13] = [
    HttpEvents::DEF,
    MysqlEvents::DEF,
    CqlEvents::DEF,
    PgsqlEvents::DEF,
    RedisEvents::DEF,
    DnsEvents::DEF,
    NatsEventsBeta::DEF,
    KafkaEventsBeta::DEF,
    MuxEvents::DEF,
    AmqpEvents::DEF,
    MongodbEvents::DEF,
    TlsEvents::DEF,
    MqttEvents::DEF,
];

declare! {
    table HttpEvents "http_events" "HTTP/1 and HTTP/2 requests with their responses, one row an exchange.";
    history Percent(40);
    row HttpEventsRow<'a> endpoints "When the response began, Unix ns." {
        major_version: Int None "HTTP major version, 1 or 2.",
        minor_version: Int None "HTTP minor version.",
        content_type: Int None "Type of the response body: 0 unknown, 1 JSON, 2 gRPC.",
        req_headers: Text None "Request headers, JSON object; secrets redacted.",
        req_method: Label HttpReqMethod "Request method.",
        req_path: Text None "Request target with its query.",
        req_body: Text None "Request body, cut to the body limit; non-text bodies are replaced by a note.",
        req_body_size: Int Bytes "Size of the request body, bytes, before cutting.",
        resp_headers: Text None "Response headers, JSON object; secrets redacted.",
        resp_status: Int HttpRespStatus "Response status code.",
        resp_message: Label HttpRespMessage "Reason phrase.",
        resp_body: Text None "Response body, decoded and cut to the body limit.",
        resp_body_size: Int Bytes "Size of the response body, bytes, before cutting.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table MysqlEvents "mysql_events" "MySQL commands with their responses.";
    history Share;
    row MysqlEventsRow<'a> endpoints "When the response was sent, Unix ns." {
        req_cmd: Int None "Command code.",
        req_body: Text None "Command text.",
        resp_status: Int None "0 unknown, 1 none, 2 ok, 3 error.",
        resp_body: Text None "Response text.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table CqlEvents "cql_events" "Cassandra CQL requests with their responses.";
    history Share;
    row CqlEventsRow<'a> endpoints "When the response was sent, Unix ns." {
        req_op: Int None "Request opcode.",
        req_body: Text None "Request text.",
        resp_op: Int None "Response opcode.",
        resp_body: Text None "Response text.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table PgsqlEvents "pgsql_events" "PostgreSQL messages with their responses.";
    history Share;
    row PgsqlEventsRow<'a> endpoints "When the response was sent, Unix ns." {
        req_cmd: Label None "Message tag name: Query, Parse, Execute, …",
        req: Text None "Request text.",
        resp: Text None "Response text.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table RedisEvents "redis_events" "Redis commands with their replies.";
    history Share;
    row RedisEventsRow<'a> endpoints "When the response was sent, Unix ns." {
        req_cmd: Label None "Command name, or a push label.",
        req_args: Text None "Arguments, JSON.",
        resp: Text None "Reply text.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table DnsEvents "dns_events" "DNS queries with their answers.";
    history Share;
    row DnsEventsRow<'a> endpoints "When the response was sent, Unix ns." {
        req_header: Text None "Query header, JSON.",
        req_body: Text None "Queries, JSON.",
        resp_header: Text None "Answer header, JSON.",
        resp_body: Text None "Answers, JSON.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table NatsEventsBeta "nats_events.beta" "NATS messages.";
    history Share;
    row NatsEventsBetaRow<'a> endpoints "When the message was sent, Unix ns." {
        cmd: Label None "INFO, CONNECT, PUB, SUB, MSG, …",
        body: Text None "Message options and payload, JSON.",
        resp: Text None "Response text.",
    }
}

declare! {
    table KafkaEventsBeta "kafka_events.beta" "Kafka requests with their responses.";
    history Share;
    row KafkaEventsBetaRow<'a> endpoints "When the request was sent, Unix ns." {
        req_cmd: Int None "API key.",
        client_id: Label None "Client id of the request.",
        req_body: Text None "Request, JSON.",
        resp: Text None "Response, JSON.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table MuxEvents "mux_events" "Mux (Finagle) exchanges.";
    history Share;
    row MuxEventsRow endpoints "When the response was sent, Unix ns." {
        req_type: Int None "Type of the message that asks.",
        latency: Int DurationNs "Response time minus request time, ns.",
        resp_type: Int None "Type of the message that answers; 0 if nothing does.",
        tag: Int None "Tag of both messages.",
    }
}

declare! {
    table AmqpEvents "amqp_events" "AMQP frames with their responses.";
    history Share;
    row AmqpEventsRow<'a> endpoints "When the later of request and response was sent, Unix ns." {
        frame_type: Int None "1 method, 2 content header, 3 content body, 8 heartbeat.",
        channel: Int None "Channel number.",
        req_class_id: Int None "Class of the request.",
        req_method_id: Int None "Method of the request.",
        resp_class_id: Int None "Class of the response.",
        resp_method_id: Int None "Method of the response.",
        req_msg: Text None "Request arguments, JSON.",
        resp_msg: Text None "Response arguments, JSON.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table MongodbEvents "mongodb_events" "MongoDB commands with their responses.";
    history Share;
    row MongodbEventsRow<'a> endpoints "When the response began, Unix ns." {
        req_cmd: Label None "Command name.",
        req_body: Text None "Request document, JSON.",
        resp_status: Label None "Status of the response.",
        resp_body: Text None "Response document, JSON.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table TlsEvents "tls_events" "TLS handshakes. Tracing is off by default.";
    history Share;
    row TlsEventsRow<'a> endpoints without encrypted "When the response began, Unix ns." {
        req_type: Int None "Record type: 0x14 change cipher, 0x15 alert, 0x16 handshake, 0x17 application, 0x18 heartbeat.",
        req_body: Text None "Client side, JSON.",
        resp_body: Text None "Server side, JSON.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}

declare! {
    table MqttEvents "mqtt_events" "MQTT packets with their answers, whichever side asks.";
    history Share;
    row MqttEventsRow<'a> endpoints "When the answer began, or the packet that nothing answers, Unix ns." {
        req_type: Int None "Type of the packet, 1 CONNECT to 15 AUTH.",
        req_body: Text None "What it says, JSON; passwords are never shown.",
        resp_type: Int None "Type of the answer; 0 where there is none.",
        resp_body: Text None "What the answer says, JSON; empty where there is none.",
        latency: Int DurationNs "Response time minus request time, ns.",
    }
}
