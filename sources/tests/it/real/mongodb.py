# PyMongo against a server on loopback: PORT SEED COUNT. Prints, for each command that it sent, what has to be its row:
# the command's name, its document, what became of it, and the answer's document, by tabs.
import random
import sys

import pymongo
from bson import Binary, Decimal128, Int64, ObjectId, Regex, json_util
from pymongo import monitoring
from pymongo.errors import PyMongoError

PORT, SEED, COUNT = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def shown(document):
    return json_util.dumps(document, json_options=json_util.RELAXED_JSON_OPTIONS)


class Log(monitoring.CommandListener):
    def started(self, event):
        # The library changes it later on.
        self.asked = (event.command_name, shown(event.command))

    def ended(self, reply, failed):
        status = "error" if failed or "writeErrors" in reply else "ok"
        print(*self.asked, status, shown(reply), sep="\t")

    def succeeded(self, event):
        self.ended(event.reply, False)

    def failed(self, event):
        self.ended(event.failure, True)


client = pymongo.MongoClient(
    "127.0.0.1", PORT, event_listeners=[Log()], retryWrites=False, retryReads=False, maxPoolSize=1
)
items, rng = client.shop.items, random.Random(SEED)
kinds = [1, -2.5, Int64(1 << 40), True, None, "é\"\\\n", ObjectId(b"0123456789ab"), Decimal128("1.50"),
         Binary(b"\0\1"), Regex("^a", "i"), [1, {"a": []}], {"deep": {"deeper": 1}}]


def operation(number):
    key = rng.randrange(20)
    match rng.randrange(9):
        case 0 | 1:
            items.insert_one({"_id": key, "v": rng.choice(kinds)})
        case 2:
            items.insert_many([{"_id": 100 * number + each, "n": each} for each in range(3)])
        case 3:
            items.find_one({"_id": key})
        case 4:
            list(items.find({"n": {"$gte": 0}}, {"n": 1}, batch_size=2, limit=5))
        case 5:
            items.update_many({"_id": {"$lt": key}}, {"$set": {"u": number}})
        case 6:
            items.delete_one({"_id": key})
        case 7:
            list(items.aggregate([{"$match": {"_id": key}}, {"$project": {"v": 1}}]))
        case _:
            client.shop.command("nosuchcommand", number)


for number in range(1, COUNT + 1):
    try:
        operation(number)
    except PyMongoError:
        pass
client.close()
