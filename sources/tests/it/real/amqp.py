# Pika against a server on loopback: PORT SEED COUNT. Prints, for each method that its connections sent or were sent,
# what has to be its row, as JSON: the connection, by whom the row was completed (what nobody answers has none), when it
# began and ended for the client, its numbers, and what was asked and answered. All of it as the library has it.
import datetime
import decimal
import json
import logging
import random
import sys
import time

import pika
import pika.connection
import pika.frame
from pika import spec
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, NackError, UnroutableError

PORT, SEED, COUNT = (int(text) for text in sys.argv[1:])
# Of methods that no row shows.
RESERVED = {"ticket", "known_hosts", "capabilities", "insist", "out_of_band", "channel_id", "cluster_id"}
NAMES = {"nowait": "no_wait", "global_qos": "global"}
NO_METHOD = (0, 0)
logging.disable(logging.CRITICAL)


def plain(value):
    match value:
        case bytes():
            return value.decode()
        case datetime.datetime():
            return int(value.replace(tzinfo=datetime.timezone.utc).timestamp())
        case decimal.Decimal():
            return float(value)
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list():
            return [plain(one) for one in value]
        case _:
            return value


def text_of(method, body_size):
    said = {NAMES.get(name, name): plain(value) for name, value in vars(method).items() if name not in RESERVED}
    if "arguments" in said:
        said["arguments"] = said["arguments"] or {}
    if isinstance(method, spec.Connection.StartOk):
        said["response"] = "<REDACTED>"
    if body_size is not None:
        said["body_size"] = body_size
    return said


class Log:
    """Of one connection."""

    def __init__(self, number):
        self.number, self.waiting, self.without_content = number, [], None

    def said(self, by, channel, method, body_size=None):
        now = time.time_ns()
        numbers, text = divmod(method.INDEX, 1 << 16), text_of(method, body_size)
        one = (by, channel, numbers, text, now)
        if method.NAME.endswith(("Ok", "GetEmpty")):
            # A channel has one request of a side under way, or the library would be at fault.
            [asked] = [it for it in self.waiting if it[0] != by and it[1] == channel]
            self.waiting.remove(asked)
            self.row(asked, one)
            if numbers in [(20, 41), (10, 51)]:
                self.never_answered(channel)
        elif method.synchronous and not getattr(method, "nowait", False):
            if numbers in [(20, 40), (10, 50)]:
                self.never_answered(channel)
            self.waiting.append(one)
        else:
            self.row(one, None)

    def never_answered(self, channel):
        """What was under way on a channel that is closed, or on all (0)."""
        for one in [it for it in self.waiting if channel in [0, it[1]]]:
            self.waiting.remove(one)
            self.row(("nobody", *one[1:]), None)

    def row(self, asked, answered):
        by, channel, numbers, text, begin_ns = asked
        end_by, _, end_numbers, end_text, end_ns = answered or (by, channel, NO_METHOD, "", begin_ns)
        end_text = json.dumps(end_text) if answered else ""
        cells = [1, channel, *numbers, *end_numbers, json.dumps(text), end_text]
        print(json.dumps([self.number, end_by, begin_ns, end_ns, [str(cell) for cell in cells]]))


def watch():
    """Each connection of the library writes down what it sends and is sent."""
    sends, processes = pika.connection.Connection._send_method, pika.connection.Connection._process_frame
    logs = {}

    def log(connection):
        # Kept with its log: as long as it is there, its identity is its own.
        return logs.setdefault(id(connection), (Log(len(logs)), connection))[0]

    def send(self, channel, method, content=None):
        log(self).said("client", channel, method, len(content[1]) if content else None)
        sends(self, channel, method, content)

    def process(self, frame):
        one = log(self)
        if isinstance(frame, pika.frame.Method):
            if frame.method.INDEX in [spec.Basic.Deliver.INDEX, spec.Basic.GetOk.INDEX, spec.Basic.Return.INDEX]:
                one.without_content = frame.method
            else:
                one.said("server", frame.channel_number, frame.method)
        elif isinstance(frame, pika.frame.Header):
            one.said("server", frame.channel_number, one.without_content, frame.body_size)
        processes(self, frame)

    pika.connection.Connection._send_method, pika.connection.Connection._process_frame = send, process
    return logs


logs = watch()
rng = random.Random(SEED)
QUEUES = [f"q{SEED}.{number}" for number in range(4)]
EXCHANGES = [("direct", f"d{SEED}"), ("topic", f"t{SEED}"), ("fanout", f"f{SEED}"), ("headers", f"h{SEED}")]
ARGUMENTS = {"x-match": "any", "n": 7, "wide": 1 << 40, "minus": -3, "is": True, "no": None, "money": decimal.Decimal("1.25"),
             "at": datetime.datetime(2026, 11, 30), "many": [1, "two", {"three": 3}], "deep": {"deeper": {"é\"\\\n": "ü"}}}
BODIES = [b"", b"x", b"small" * 20, b"k" * 5_000, bytes(range(256)) * 1_200]


def connect(password="guest", vhost="/"):
    login = pika.PlainCredentials("guest", password)
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", PORT, vhost, login, heartbeat=0))


class Session:
    """A plain channel, one with confirms, one with transactions, and one that is closed by what it does wrong."""

    def __init__(self, connection):
        self.connection, self.got, self.tags = connection, [], []
        self.plain, self.sure, self.tx, self.wrong = (connection.channel(number) for number in range(1, 5))
        self.sure.confirm_delivery()
        self.tx.tx_select()
        for kind, name in EXCHANGES:
            self.plain.exchange_declare(name, kind, durable=rng.random() < 0.5, arguments={"a": 1})
        for queue in QUEUES:
            self.plain.queue_declare(queue, auto_delete=False, arguments=ARGUMENTS)

    def publish(self, channel, **more):
        headers = pika.BasicProperties(headers={"n": 1}, delivery_mode=rng.choice([1, None]), content_type="text/plain")
        body = rng.choice(BODIES)
        try:
            channel.basic_publish("", rng.choice(QUEUES), body, headers, **more)
        except (UnroutableError, NackError):
            raise AssertionError("there is such a queue")

    def fetch(self):
        channel, auto = rng.choice([self.plain, self.sure]), rng.random() < 0.5
        method, _, body = channel.basic_get(rng.choice(QUEUES), auto_ack=auto)
        assert method is None or body in BODIES
        if method is not None and not auto:
            match rng.randrange(4):
                case 0:
                    channel.basic_nack(method.delivery_tag, requeue=rng.random() < 0.2)
                case 1:
                    channel.basic_reject(method.delivery_tag, requeue=False)
                case _:
                    channel.basic_ack(method.delivery_tag, multiple=rng.random() < 0.3)

    def consume(self):
        channel, queue, seen = self.plain, rng.choice(QUEUES), []

        def on_message(channel, method, _, body):
            assert body in BODIES
            seen.append(method)
            channel.basic_ack(method.delivery_tag) if rng.random() < 0.8 else channel.basic_nack(method.delivery_tag, requeue=False)

        channel.basic_qos(prefetch_count=rng.randrange(1, 9))
        tag = channel.basic_consume(queue, on_message, arguments={"x-priority": 5})
        for _ in range(3):
            channel.basic_publish("", queue, rng.choice(BODIES))
        while len(seen) < 3:
            self.connection.process_data_events(0.002)
        channel.basic_cancel(tag)

    def bind(self):
        channel, queue, key = rng.choice([self.plain, self.sure]), rng.choice(QUEUES), f"k.{rng.randrange(9)}.größe"
        (kind, exchange), (_, other) = rng.choice(EXCHANGES), rng.choice(EXCHANGES[:3])
        arguments = {**ARGUMENTS, "x-match": "all"} if kind == "headers" else None
        channel.queue_bind(queue, exchange, key, arguments)
        channel.basic_publish(exchange, key, BODIES[1])
        if rng.random() < 0.5:
            channel.queue_unbind(queue, exchange, key, arguments)
        if rng.random() < 0.3 and other != exchange:
            channel.exchange_bind(other, exchange, "a.b")
            channel.exchange_unbind(other, exchange, "a.b")

    def unroutable(self):
        try:
            self.sure.basic_publish("", "nobody", rng.choice(BODIES), mandatory=True)
            raise AssertionError("nobody is there")
        except UnroutableError:
            pass

    def transaction(self):
        for _ in range(rng.randrange(1, 4)):
            self.publish(self.tx)
        self.tx.tx_commit() if rng.random() < 0.6 else self.tx.tx_rollback()

    def short_lived(self):
        name = self.plain.queue_declare("", exclusive=True).method.queue
        self.plain.basic_publish("", name, BODIES[1])
        self.plain.queue_purge(name)
        self.plain.queue_delete(name)
        self.plain.exchange_declare(f"e{SEED}", "fanout", auto_delete=True)
        self.plain.exchange_delete(f"e{SEED}")

    def side_by_side(self):
        """Two channels, and what is asked on both at once."""
        seen = []
        for channel, queue in [(self.plain, QUEUES[0]), (self.sure, QUEUES[1]), (self.tx, QUEUES[2])]:
            channel._impl.queue_declare(queue, passive=True, callback=seen.append)
        while len(seen) < 3:
            self.connection.process_data_events(0.002)

    def mistake(self):
        channel, kind = self.wrong, rng.randrange(6)
        try:
            match kind:
                case 0:
                    channel.queue_declare("missing", passive=True)
                case 1:
                    channel.queue_declare(QUEUES[0], durable=True, arguments={"x-max-length": 3})
                case 2:
                    channel.basic_ack(4_711)
                    channel.queue_declare(QUEUES[1], passive=True)
                case 3:
                    channel.basic_publish("missing", "k", rng.choice(BODIES))
                    channel.queue_declare(QUEUES[2], passive=True)
                case 4:
                    channel.tx_select()
                    channel.confirm_delivery()
                case _:
                    channel.basic_get("missing")
            raise AssertionError(f"mistake {kind} is one")
        except ChannelClosedByBroker as error:
            assert error.reply_code in [404, 406], error
        self.wrong = self.connection.channel(4)
        self.wrong.queue_declare(QUEUES[3], passive=True)

    def anew(self):
        self.wrong.close(reply_text="enough")
        self.wrong = self.connection.channel(4)

    def operation(self):
        match rng.randrange(14):
            case 0 | 1 | 2:
                self.publish(self.plain)
            case 3 | 4:
                self.publish(self.sure, mandatory=True)
            case 5 | 6 | 7:
                self.fetch()
            case 8:
                self.consume()
            case 9:
                self.bind()
            case 10:
                self.unroutable() if rng.random() < 0.5 else self.transaction()
            case 11:
                self.short_lived()
            case 12:
                self.side_by_side()
            case _:
                self.mistake() if rng.random() < 0.7 else self.anew()


session = Session(connect())
for number in range(COUNT):
    session.operation()
session.connection.close()


def is_refused(go):
    try:
        go()
    except AMQPConnectionError:
        return
    raise AssertionError("it was refused")


# What ends a whole connection.
is_refused(lambda: connect(vhost="nowhere"))
connection = connect()
channel = connection.channel()
publish = spec.Basic.Publish(exchange="", routing_key=QUEUES[0], immediate=True)
channel._impl._send_method(publish, (pika.BasicProperties(), b""))
is_refused(lambda: channel.queue_declare(QUEUES[0], passive=True))
for log, _ in logs.values():
    log.never_answered(0)
