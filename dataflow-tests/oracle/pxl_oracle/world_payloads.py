"""Bodies, headers, statements and messages of protocol rows, realistic and nasty."""

import json

PATHS = ["/", "/items", "/items/1", "/items/2?x=1", "/items/3", "/items/77/reviews", "/healthz",
         "/readyz", "/users/42/cart/7", "/users/43/cart/9?y=2", "/a//b", "", "/items/*",
         "/v1/a/b/c", "/v1/a/b/d", "/v1/a/x/d", "/v1/q/x/d"] + [f"/o/{i}" for i in range(8)]
PII = ["plain text", "mail bob.smith@example.com now", "call 123-45-6789", "ip 10.20.30.40 seen",
       "card 4111 1111 1111 1111 ok", "card 4111-1111-1111-1112 bad", "iban DE89370400440532013000",
       "mac 00:1b:44:11:3a:b7", "bob%40example.org", '{"email":"a@b.co","n":1}', "",
       "two a@b.co and c@d.org", "v6 2001:db8::ff00:42:8329 x"]
SQL = ["SELECT 1", "SELECT * FROM items WHERE id = 5", "select name from t where a='x''y' and b=2",
       "INSERT INTO t (a, b) VALUES (1, 'two')", "UPDATE t SET a = 3.5 WHERE b = 'k'",
       "SELECT * FROM items WHERE id = 6", "DELETE FROM t WHERE id IN (1, 2, 3)", "BEGIN",
       "COMMIT", "SELECT * FROM items WHERE id = 5 LIMIT 10"]


class Payloads:
    """Overwrites the columns of a table's row that scripts look into."""

    def __init__(self, random):
        self.random = random

    def fill(self, table, row):
        handler = getattr(self, "_" + table.split(".")[0], None)
        if handler:
            handler(row)

    def _choice(self, *options):
        return self.random.choice(options)

    def _http_events(self, row):
        row["req_path"] = self._choice(*PATHS)
        row["req_method"] = self._choice("GET", "GET", "POST", "PUT")
        row["resp_status"] = self._choice(200, 200, 200, 201, 301, 399, 400, 404, 500, 503)
        row["req_body"] = self._choice(*PII)
        headers = {"Host": "shop", "User-Agent": self._choice("curl", "kube-probe/1.2")}
        if self.random.random() < 0.6:
            trace = self._choice("4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c")
            headers[self._choice("traceparent", "Traceparent")] = f"00-{trace}-00f067aa0ba902b7-01"
        row["req_headers"] = json.dumps(headers)
        row["major_version"] = self._choice(1, 2)
        row["req_body_size"] = self.random.randrange(5000)
        row["resp_body_size"] = self._choice(0, self.random.randrange(10**6))

    def _mysql_events(self, row):
        row["req_cmd"] = self._choice(3, 3, 3, 0x17, 1, 0x16)
        row["req_body"] = self._choice(*SQL)
        if row["req_cmd"] == 0x17:
            row["req_body"] = "query=[SELECT * FROM items WHERE id = ?] params=[5]"
        row["resp_status"] = self._choice(0, 1, 2, 2, 3)

    def _pgsql_events(self, row):
        row["req_cmd"] = self._choice("Query", "Query", "Execute", "Parse", "Bind")
        row["req"] = self._choice(*SQL)
        if row["req_cmd"] == "Execute":
            row["req"] = "query=[SELECT * FROM items WHERE id = $1] params=[5]"
        row["resp"] = self._choice("SELECT 1", "ERROR: relation", "", "a,b\n1,2")

    def _cql_events(self, row):
        row["req_op"] = self._choice(1, 5, 7, 9, 10, 11, 13, 15)
        row["resp_op"] = self._choice(0, 2, 3, 6, 8, 12, 14, 16)
        row["req_body"] = self._choice(*SQL, *PII)

    def _redis_events(self, row):
        row["req_cmd"] = self._choice("GET", "SET", "PUSH PUB", "HGETALL", "")
        row["req_args"] = self._choice('["a@b.co"]', '["k","v"]', '{"key":"k"}', "")
        row["resp"] = self._choice("OK", "-ERR unknown", "[]", "")

    def _mongodb_events(self, row):
        row["req_cmd"] = self._choice("find", "insert", "hello")
        row["req_body"] = self._choice('{"find":"c"}', "{}", "broken {")

    def _dns_events(self, row):
        names = ["cart.shop.svc.cluster.local", "example.com", "www.example.com", "db.default",
                 "api.shop.io", "x"]
        name, rcode = self._choice(*names), self._choice(0, 0, 0, 2, 3)
        answers = [{"name": name, "type": "A", "addr": self._choice("93.184.216.34", "8.8.8.8",
                                                                    "198.51.100.9")}
                   for _ in range(self.random.randrange(4))]
        if answers and self.random.random() < 0.3:
            answers.insert(0, {"name": name, "type": "CNAME", "cname": "edge.example.net"})
        header = {"txid": self.random.randrange(65536), "qr": 0, "opcode": 0, "aa": 0, "tc": 0,
                  "rd": 1, "ra": 0, "ad": 0, "cd": 0, "rcode": 0, "num_queries": 1,
                  "num_answers": 0, "num_auth": 0, "num_addl": 0}
        text = {"separators": (",", ":")}
        row["req_header"] = json.dumps(header, **text)
        row["resp_header"] = json.dumps({**header, "qr": 1, "rcode": rcode,
                                         "num_answers": len(answers)}, **text)
        row["req_body"] = json.dumps(
            {"queries": [{"name": name, "type": self._choice("A", "AAAA", "")}]}, **text)
        row["resp_body"] = json.dumps({"answers": answers}, **text)

    def _nats_events(self, row):
        row["cmd"] = self._choice("INFO", "CONNECT", "PUB", "SUB", "MSG", "-ERR")
        row["body"] = json.dumps({"subject": self._choice("foo", "bar"), "payload": "hi"})

    def _kafka_events(self, row):
        row["req_cmd"] = self._choice(0, 0, 1, 1, 1, 11, 14, 3, 18, 99)
        row["client_id"] = self._choice("cart", "front", "")
        topics = []
        for name in self.random.sample(["orders", "payments", "logs"], self.random.randrange(1, 4)):
            partitions = []
            for index in range(self.random.randrange(1, 4)):
                partition = {"index": index, "message_set": {"size": self.random.randrange(2000)},
                             "fetch_offset": str(self.random.randrange(30)),
                             "base_offset": str(self.random.randrange(30))}
                if self.random.random() < 0.5:
                    partition["fetch_offset"] = int(partition["fetch_offset"])
                    partition["base_offset"] = int(partition["base_offset"])
                partitions.append(partition)
            topics.append({"name": name, "partitions": partitions})
        group = {"group_id": self._choice("grp-1", "grp-2"), "member_id": self._choice("m1", "m2"),
                 "generation_id": self._choice(1, 2, 3, "4")}
        body = group if row["req_cmd"] in (11, 14) else {"topics": topics}
        compact = {"separators": (",", ":")}
        row["req_body"] = json.dumps(body, **compact)
        row["resp"] = json.dumps(body if self.random.random() < 0.9 else {}, **compact)

    def _mux_events(self, row):
        row["req_type"] = self._choice(1, -1, 2, 64, 127, -62, 5)

    def _amqp_events(self, row):
        row["frame_type"] = self._choice(1, 1, 2, 3, 8, 9)
        row["req_class_id"] = self._choice(10, 20, 40, 50, 60, 60, 60, 90, 0)
        row["req_method_id"] = self._choice(10, 11, 20, 40, 60, 80, 0)
        row["resp_class_id"] = self._choice(0, 50, 60, 60, 10)
        row["resp_method_id"] = self._choice(0, 11, 41, 60)
        row["req_msg"] = json.dumps({"body_size": self.random.randrange(3000),
                                     "routing_key": self._choice("rk", "q1", ""),
                                     "exchange": "ex", "queue": self._choice("q1", "q2"),
                                     "consumer_tag": "tag"})
        row["resp_msg"] = self._choice("", '{"queue":"q1","message_count":0}',
                                       '{"routing_key":"rk","consumer_tag":"tag"}')

    def _conn_stats(self, row):
        row["protocol"] = self.random.randrange(14)
        row["addr_family"] = self._choice(1, 1, 1, 2)

    def _stack_traces(self, row):
        row["stack_trace_id"] = self.random.randrange(12)
        row["stack_trace"] = f"main;f{row['stack_trace_id']};[k] sys_read"
        row["count"] = self.random.randrange(1, 50)

    def _stirling_error(self, row):
        row["source_connector"] = self._choice("socket_tracer", "proc_stat", "")

    def _probe_status(self, row):
        row["source_connector"] = self._choice("socket_tracer", "dynamic_trace")
        row["tracepoint"] = self._choice("tp1", "tp2")

    def _sock_sendmsg_table(self, row):
        row["size"] = self.random.randrange(9000)

    _sock_recvmsg_table = _sock_sendmsg_table

    def _vfs_table(self, row):
        row["op"] = self._choice("vfs_open", "vfs_read")
        row["d1"] = self._choice("etc", "name", "/")
        row["d2"] = self._choice("/", "/", "x")

    def _let_events(self, row):
        row["service"] = self._choice("a", "b", "c")
        row["endpoint"] = self._choice("/x", "/y")
        row["status"] = self._choice(200, 404, 500)
