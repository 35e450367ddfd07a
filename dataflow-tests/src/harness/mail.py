"""A mail server for tests, over aiosmtpd: of each mail it prints a line of JSON, as Python's own parser reads it.

Argument: the port.
"""
import asyncio
import email
import email.policy
import json
import sys

from aiosmtpd.smtp import SMTP


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


async def main():
    make = lambda: SMTP(Reads(), hostname="test")
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
