"""gRPC for Python, both ends: unary calls, some of them refused, and streams both ways.

grpcio.py PLACE PORT server|client plain|tls CALLS. The client logs a line for each call, as grpc-go's does:
path#number=status/bytes-asked 200 bytes-answered.
"""
import concurrent.futures
import sys
import threading

import grpc

place, port, role, form, calls = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
PREFIX = 5  # before each message


def number(context):
    return int(dict(context.invocation_metadata())["x-id"])


def unary(asked, context):
    n = number(context)
    if n % 7 == 0:
        context.abort(grpc.StatusCode.NOT_FOUND, f"no {n}")
    return b"m" * (n * 37 % 4000)


def stream(asked, context):
    """Each message is answered by one of another length; the first by two."""
    n = number(context)
    for count, message in enumerate(asked):
        if count == 0:
            yield b"m" * (n * 13 % 900)
        yield b"m" * (len(message) // 2)
    if n % 5 == 0:
        context.abort(grpc.StatusCode.ABORTED, "enough")


def read(name):
    with open(f"{place}/{name}", "rb") as file:
        return file.read()


def serve():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Both": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("weir.Pair", methods),))
    if form == "tls":
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(read("key.pem"), read("cert.pem"))]))
    else:
        server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


lock = threading.Lock()


def say(method, n, asked, status, answered):
    with lock:
        print(f"/weir.Pair/{method}#{n}={status.value[0]}/{asked} 200 {answered}")


def ask(channel, n):
    asked = b"m" * (n * 91 % 3000)
    call = channel.unary_unary("/weir.Pair/Unary")
    try:
        answer, status = call(asked, metadata=[("x-id", str(n))]), grpc.StatusCode.OK
        size = PREFIX + len(answer)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
        size, status = 0, error.code()
    say("Unary", n, PREFIX + len(asked), status, size)


def talk(channel, n, messages):
    asked = [b"m" * ((n * 17 + count * 501) % 1200) for count in range(messages)]
    call = channel.stream_stream("/weir.Pair/Both")(iter(asked), metadata=[("x-id", str(n))])
    answered, status = 0, grpc.StatusCode.OK
    try:
        for answer in call:
            answered += PREFIX + len(answer)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.ABORTED, error
        status = error.code()
    say("Both", n, sum(PREFIX + len(message) for message in asked), status, answered)


def client():
    target = f"localhost:{port}"
    if form == "tls":
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(read("cert.pem")))
    else:
        channel = grpc.insecure_channel(target)

    def task(first):
        for n in range(first, calls, 6):
            ask(channel, 2 * n)
            talk(channel, 2 * n + 1, 1 + n % 9)

    threads = [threading.Thread(target=task, args=(first,)) for first in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    channel.close()


serve() if role == "server" else client()
