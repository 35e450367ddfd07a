# Cassandra's driver against a server on loopback: PORT VERSION SEED COUNT. Prints, for each request that it was asked to
# make, what has to be its row: the operation, its text, the answer's operation and its text, as JSON.
import json
import logging
import random
import re
import sys

from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.cluster import Cluster
from cassandra.protocol import SyntaxException
from cassandra.query import BatchStatement, SimpleStatement

PORT, VERSION, SEED, COUNT = (int(text) for text in sys.argv[1:])
QUERY, PREPARE, EXECUTE, BATCH = 7, 9, 10, 13
ERROR, RESULT = 0, 8
TABLE = "shop%d.items" % SEED
logging.disable(logging.CRITICAL)

cluster = Cluster(
    ["127.0.0.1"], PORT, protocol_version=VERSION, compression=False, schema_metadata_enabled=False,
    token_metadata_enabled=False, connect_timeout=60, control_connection_timeout=60,
    status_event_refresh_window=-1, topology_event_refresh_window=-1)
session = cluster.connect()
session.default_timeout = 60
rng = random.Random(SEED)


def said(op, text, answer_op, answer):
    print(json.dumps([str(op), text, str(answer_op), answer]))


def answer_of(result):
    names = result.column_names
    if names is None:
        return "Response type = VOID"
    shown = ",".join(json.dumps(name) for name in names)
    rows = len(result.current_rows)
    return f"Response type = ROWS\nNumber of columns = {len(names)}\n[{shown}]\nNumber of rows = {rows}"


def ask(op, text, statement, values=None):
    try:
        result = session.execute(statement, values)
        said(op, text, RESULT, answer_of(result))
    except (InvalidRequest, SyntaxException) as error:
        code, message = re.match(r'.*?code=([0-9a-f]{4}) \[.*?\] message="(.*)"', str(error), re.S).groups()
        said(op, text, ERROR, f"[{int(code, 16)}] {message}")


def define(text):
    session.execute(text)
    said(QUERY, text, RESULT, "Response type = SCHEMA_CHANGE")


def prepare(text):
    prepared = session.prepare(text)
    said(PREPARE, text, RESULT, "Response type = PREPARED")
    return prepared


define("CREATE KEYSPACE shop%d WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}" % SEED)
define(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, name text, n bigint, ok boolean, tags list<int>)")
insert_text = f"INSERT INTO {TABLE} (id, name, n, ok, tags) VALUES (?, ?, ?, ?, ?)"
select_text = f"SELECT name, n FROM {TABLE} WHERE id = ?"
insert, select = prepare(insert_text), prepare(select_text)


def shown(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def executed(text, values):
    return f"query=[{text}] params=[{', '.join(shown(value) for value in values)}]"


def operation(number):
    key = rng.randrange(20)
    match rng.randrange(8):
        case 0:
            text = f"INSERT INTO {TABLE} (id, name, n) VALUES ({key}, 'é''{number}', {number << 33})"
            ask(QUERY, text, SimpleStatement(text))
        case 1:
            text = f"SELECT * FROM {TABLE} WHERE id IN (1, {key})"
            ask(QUERY, text, SimpleStatement(text, consistency_level=ConsistencyLevel.ONE))
        case 2 | 3:
            values = (key, rng.choice(["", "nuts", "größe", None]), rng.choice([-1, 1 << 40, None]),
                      rng.choice([True, False, None]), rng.choice([[1, 2], None]))
            ask(EXECUTE, executed(insert_text, values), insert, values)
        case 4 | 5:
            ask(EXECUTE, executed(select_text, [key]), select, [key])
        case 6:
            one = f"UPDATE {TABLE} SET n = {number} WHERE id = {key}"
            batch = BatchStatement()
            batch.add(SimpleStatement(one))
            batch.add(insert, (key, "b", 1, True, None))
            parts = [{"query": one}, {"id": insert.query_id.hex()}]
            ask(BATCH, json.dumps(parts, separators=(",", ":")), batch)
        case _:
            text = rng.choice(["SELECT nothing FROM " + TABLE, "SELEKT 1", "SELECT * FROM shop.nothing"])
            ask(QUERY, text, SimpleStatement(text))


for number in range(1, COUNT + 1):
    operation(number)
cluster.shutdown()
