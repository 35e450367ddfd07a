"""One application for many Python servers: WSGI (`app`), ASGI (`asgi`), and servers that are libraries.

    python3 app.py SERVER PORT
"""
import sys


def parts(path):
    """The body's pieces, and its length where the server is to say it."""
    if path.startswith("/s/"):
        return [b"ab"] * 20, None
    if path.startswith("/l/"):
        return [b"x" * 12_000] * 10, None
    body = ("plain " + path + "\n").encode()
    return [body], len(body)


def app(environ, start_response):
    pieces, length = parts(environ["PATH_INFO"])
    headers = [("Content-Type", "text/plain")]
    if length is not None:
        headers.append(("Content-Length", str(length)))
    start_response("200 OK", headers)
    return iter(pieces)


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    pieces, length = parts(scope["path"])
    headers = [(b"content-type", b"text/plain")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def http_server(port):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            pieces, length = parts(self.path)
            self.send_response(200)
            if length is None:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            for piece in pieces:
                if length is None:
                    self.wfile.write(b"%x\r\n" % len(piece))
                    self.wfile.write(piece)
                    self.wfile.write(b"\r\n")
                else:
                    self.wfile.write(piece)
            if length is None:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def tornado(port):
    from tornado import ioloop, web

    class Handler(web.RequestHandler):
        async def get(self):
            pieces, length = parts(self.request.path)
            if length is not None:
                self.set_header("Content-Length", str(length))
            for piece in pieces:
                self.write(piece)
                await self.flush()

    web.Application([(r"/.*", Handler)]).listen(port, "127.0.0.1")
    ioloop.IOLoop.current().start()


def aiohttp(port):
    from aiohttp import web

    async def handle(request):
        pieces, length = parts(request.path)
        response = web.StreamResponse()
        if length is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = length
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()
        return response

    server = web.Application()
    server.router.add_get("/{rest:.*}", handle)
    web.run_app(server, host="127.0.0.1", port=port, print=None)


def twisted(port):
    from twisted.internet import reactor
    from twisted.web import resource, server

    class Everything(resource.Resource):
        isLeaf = True

        def render_GET(self, request):
            pieces, length = parts(request.path.decode())
            if length is not None:
                request.setHeader(b"content-length", str(length).encode())
            for piece in pieces:
                request.write(piece)
            request.finish()
            return server.NOT_DONE_YET

    reactor.listenTCP(port, server.Site(Everything()), interface="127.0.0.1")
    reactor.run()


def waitress(port):
    from waitress import serve

    serve(app, host="127.0.0.1", port=port)


def cheroot(port):
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), app).start()


def werkzeug(port):
    from werkzeug.serving import WSGIRequestHandler, run_simple

    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    run_simple("127.0.0.1", port, app, threaded=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
