"""A mail server for tests, over aiosmtpd: of each mail it prints a line of JSON, as Python's own parser reads it.

Arguments: the port; and who is let in, over TLS only: the mechanism, user, password, files of a certificate and its
key. Each login is a line, too, and is told what it said when it is refused.
"""
import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


class Reads:
    async def handle_DATA(self, server, session, envelope):
        # Folded lines are one header; where a line ends is the mail's own.
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        told = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": mail.keys(),
            "subject": str(mail["Subject"]),
            "body": mail.get_payload(decode=True).decode(),
            "longest": max(len(line) for line in envelope.original_content.split(b"\r\n")),
        }
        print(json.dumps(told), flush=True)
        return "250 OK"


def guarded(mechanism, user, password, *files):
    wanted = LoginPassword(user.encode(), password.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)

    def login(server, session, envelope, mechanism, data):
        told = {
            "mechanism": mechanism,
            "user": data.login.decode(),
            "password": data.password.decode(),
        }
        print(json.dumps(told), flush=True)
        if data == wanted:
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False, message="535 5.7.8 not " + json.dumps(told))

    others = {"PLAIN", "LOGIN"} - {mechanism}
    return {
        "authenticator": login,
        "auth_required": True,
        "auth_exclude_mechanism": others,
        "tls_context": context,
        "require_starttls": True,
    }


async def main():
    options = guarded(*sys.argv[2:]) if sys.argv[2:] else {}
    make = lambda: SMTP(Reads(), hostname="test", **options)
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
