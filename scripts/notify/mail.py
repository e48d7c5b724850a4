"""Checks a mail for test-notify.sh: mail.py FILE ADDRESS.

The first line of FILE has the arguments of the mail program, the others are the
message. The UPNP variables of the environment are what it must tell.
"""

import email
import email.policy
import os
import sys

arguments, message = open(sys.argv[1], "rb").read().split(b"\n", 1)
want = f"-v -- {sys.argv[2]}"
if arguments.decode() != want:
    sys.exit(f"arguments {arguments}, want {want}")
mail = email.message_from_bytes(message, policy=email.policy.default)
names = ["To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]
if mail.keys() != names or mail.defects:
    sys.exit(f"headers {mail.keys()}, want {names}; defects {mail.defects}")
if mail["To"] != sys.argv[2] or not mail["Subject"].startswith("miniupnpd: " + os.environ["UPNP_EVENT"]):
    sys.exit(f"To: {mail['To']}, Subject: {mail['Subject']}")


def plain(text):
    """Returns text with ? for control characters."""
    return "".join("?" if ord(c) < 32 or ord(c) == 127 else c for c in text)


values = {k: v for k, v in os.environ.items() if k.startswith("UPNP_")}
want = sorted(f"{k[5:].lower().replace('_', ' ') + ':':<18}{plain(v)}" for k, v in values.items())
if sorted(mail.get_content().splitlines()) != want:
    sys.exit(f"body {mail.get_content()}\nwant {want}")
