"""A mail server for tests, over aiosmtpd: prints the mails that it gets.

Arguments: the port, how it speaks (plain, starttls, tls), a certificate and its key. With TLS it wants a login, as user
"weir" with the password of the environment's PASSWORD.
"""
import asyncio
import os
import ssl
import sys

from aiosmtpd.handlers import Debugging
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

port, kind, *files = sys.argv[1:]


def login(server, session, envelope, mechanism, data):
    wanted = LoginPassword(b"weir", os.environb[b"PASSWORD"])
    return AuthResult(success=data == wanted, handled=False)


async def main():
    context = None
    options = {}
    if kind != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        options = {"authenticator": login, "auth_required": True}
    if kind == "starttls":
        options.update(tls_context=context, require_starttls=True)
    if kind == "tls":
        options.update(auth_require_tls=False)
    make = lambda: SMTP(Debugging(sys.stdout), hostname="test", **options)
    outer = context if kind == "tls" else None
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", int(port), ssl=outer)
    await server.serve_forever()


asyncio.run(main())
