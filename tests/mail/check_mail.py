#!/usr/bin/env python3
"""Reads mails that campaignd sent over SMTP with software that is not ours.

aiosmtpd takes them, dkimpy verifies their signatures, with an RSA key and with an Ed25519 key, and Python's parser says
what is in them. Names of customers try to break out of their headers. Each check is printed; the exit code is not 0 when
one failed.

    python3 -m pip install -r tests/mail/requirements.txt
    python3 tests/mail/check_mail.py --programs target/debug
"""

import argparse
import base64
import contextlib
import email
import email.header
import email.policy
import email.utils
import html
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

import dkim
from aiosmtpd.controller import Controller

FILES = pathlib.Path(__file__).resolve().parent / "files"
SELECTOR = "campaigns"
FROM = ("Our Shop", "hello@shop.example")
SALES = ("Züri, Inc.", "sales@shop.example")
POSTAL_ADDRESS = "Our Shop Ltd, 1 High St, Springfield"
PUBLIC_URL = "https://mail.shop.example"

# By customer. Nobody may gain a header, a recipient or another name by what they are called.
NAMES = {
    "plain": "Anna Lindqvist",
    "accents": "Zoë Ångström-Müller",
    "letters": "佐藤 健司 🎈",
    "quotes": 'Anna "the \\ reader" Berg',
    "address": "root@example.org, Eve <eve@example.org>",
    "encoded": "=?utf-8?q?Bcc=3A_eve=40example=2Eorg?=",
    "escaped": "%0D%0ABcc: eve@example.org",
    "comment": "(a) ; b : c [d]",
    "long": "ünï " * 49 + "end",
}

# These are refused when they come in.
BROKEN_NAMES = ["Eve\r\nBcc: eve@example.org", "Eve\nBcc: eve@example.org", "Eve\rX: y", "Eve\0", "Eve\u2028X: y", "Eve\u0085X"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--programs", type=pathlib.Path, default=pathlib.Path("target/debug"), help="the folder of campaignd")
    programs = arguments.parse_args().programs.resolve()

    checks = Checks()
    for algorithm in ("rsa", "ed25519"):
        with tempfile.TemporaryDirectory() as folder:
            key = Key(algorithm, pathlib.Path(folder))
            mails = sent(programs, pathlib.Path(folder), key, checks)
            expected = sorted(f"{customer}@example.com" for customer in NAMES for _ in ("letter", "note"))
            checks.equal(f"{algorithm}: who got mails", sorted(mail.to for mail in mails), expected)
            for mail in mails:
                check_signature(mail, key, checks)
                check_content(mail, checks)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


class Checks:
    """Counts, and prints what failed."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, what, holds, seen=None):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED  {what}" + ("" if seen is None else f"\n        seen: {seen}"))

    def equal(self, what, seen, expected):
        self.that(what, seen == expected, f"{seen!r}, expected {expected!r}")


class Key:
    """A key as the README has it made, and the record in the DNS that publishes its other half."""

    def __init__(self, algorithm, folder):
        self.algorithm = algorithm
        self.file = folder / "dkim.pem"
        options = {"rsa": ["rsa", "-pkeyopt", "rsa_keygen_bits:2048"], "ed25519": ["ed25519"]}[algorithm]
        subprocess.run(["openssl", "genpkey", "-out", self.file, "-algorithm", *options], check=True, stderr=subprocess.DEVNULL)
        public = ["openssl", "pkey", "-in", self.file, "-pubout", "-outform", "DER"]
        public = subprocess.run(public, check=True, capture_output=True).stdout
        # RFC 8463, 4: of Ed25519 the 32 bytes alone are published.
        published = base64.b64encode(public[-32:] if algorithm == "ed25519" else public).decode()
        self.record = f"v=DKIM1; k={algorithm}; p={published}"

    def published(self, name, timeout=5):
        del timeout
        return self.record.encode() if name == f"{SELECTOR}._domainkey.shop.example.".encode() else None


class Mail:
    """A mail that arrived: its envelope, and what was in it."""

    def __init__(self, envelope):
        self.sender = envelope.mail_from
        self.recipients = envelope.rcpt_tos
        self.to = ",".join(self.recipients)
        self.bytes = envelope.original_content
        self.message = email.message_from_bytes(self.bytes, policy=email.policy.default)
        self.raw = email.message_from_bytes(self.bytes)


class Sink:
    """Takes over every mail."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        del server, session
        self.mails.append(Mail(envelope))
        return "250 taken over"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(command, port, folder):
    """A server, as long as the block runs, from when it listens on its port."""
    with open(folder / "log", "wb") as log, subprocess.Popen(command, cwd=folder, stderr=log) as process:
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                sys.exit("campaignd does not listen")
            yield
        except BaseException:
            sys.stderr.write((folder / "log").read_text())
            raise
        finally:
            process.terminate()


def sent(programs, folder, key, checks):
    """Has campaignd send a letter and a note to each customer; what arrived."""
    sink = Sink()
    smtp = Controller(sink, hostname="127.0.0.1", port=free_port(), decode_data=False)
    smtp.start()
    port = free_port()
    server = [
        programs / "campaignd", f"--listen=127.0.0.1:{port}", f"--email-url=smtp://127.0.0.1:{smtp.port}",
        f"--email-from={FROM[0]} <{FROM[1]}>", f"--public-url={PUBLIC_URL}", f"--postal-address={POSTAL_ADDRESS}",
        f"--dkim-key-file={key.file}", f"--dkim-selector={SELECTOR}", "--log=warn",
    ]

    def ctl(*given):
        command = [programs / "campaignctl", f"--server=http://127.0.0.1:{port}", *given]
        return subprocess.run(command, capture_output=True, text=True)

    def apply(name, customers):
        # JSON is YAML, but campaignctl goes by the first key of a line.
        file = folder / f"{name}.yaml"
        file.write_text(f"customers: {json.dumps(customers)}\n")
        return ctl("apply", file)

    try:
        with serving(server, port, folder):
            for at, name in enumerate(BROKEN_NAMES):
                broken = apply(f"broken{at}", [{"customerId": "eve", "displayName": name, "email": "eve@example.com"}])
                checks.that(f"the name {name!r} is refused", broken.returncode != 0, broken.stdout)
            customers = [
                {"customerId": customer, "displayName": name, "email": f"{customer}@example.com"}
                for customer, name in NAMES.items()
            ]
            for done in [ctl("apply", FILES), apply("customers", customers), *(ctl("start", who, "peers") for who in NAMES)]:
                if done.returncode != 0:
                    sys.exit(f"{done.args}: {done.stdout}{done.stderr}")
            tick = [programs / "campaign-tick", "hourly", f"--server=http://127.0.0.1:{port}", "--deadline=1m"]
            subprocess.run(tick, check=True)
    finally:
        smtp.stop()
    return sink.mails


def check_signature(mail, key, checks):
    what = f"{key.algorithm}, {mail.to}"
    checks.that(f"{what}: the signature is good", dkim.verify(mail.bytes, dnsfunc=key.published))
    tags = dict(
        tag.strip().split("=", 1) for tag in re.sub(r"\s+", "", str(mail.message["DKIM-Signature"])).split(";") if tag
    )
    checks.equal(f"{what}: algorithm and domain", (tags["a"], tags["d"]), (f"{key.algorithm}-sha256", "shop.example"))
    covered = tags["h"].lower().split(":")
    for name in {name.lower() for name in mail.message.keys()} - {"dkim-signature"}:
        checks.that(f"{what}: {name} is covered", name in covered, covered)
    if mail.message["List-Unsubscribe"]:
        both = {"list-unsubscribe", "list-unsubscribe-post"}
        checks.that(f"{what}: both headers of RFC 8058 are covered", both <= set(covered), covered)
    # A verifier that takes everything would take these as well.
    for changed in [
        mail.bytes.replace(b"Subject: ", b"Subject: Re: ", 1),
        mail.bytes.replace(b"To: ", b"From: eve@example.org\r\nTo: ", 1),
        mail.bytes + b"One line more\r\n",
        mail.bytes.replace(b"List-Unsubscribe-Post: ", b"X: ", 1),
    ]:
        if changed != mail.bytes:
            checks.that(f"{what}: a changed mail is refused", not dkim.verify(changed, dnsfunc=key.published))


def check_content(mail, checks):
    message, what = mail.message, mail.to
    customer = mail.to.split("@")[0]
    name = NAMES[customer]
    is_letter = message.is_multipart()
    sender = SALES if is_letter else FROM

    checks.equal(f"{what}: defects", [part.defects for part in message.walk() if part.defects], [])
    checks.equal(f"{what}: recipients of the envelope", mail.recipients, [f"{customer}@example.com"])
    for header, expected in [("From", sender), ("To", (name, f"{customer}@example.com"))]:
        # By hand: versions of the new parser put a space where an encoded name was folded.
        read = [(decoded(name), address) for name, address in email.utils.getaddresses([mail.raw[header]])]
        checks.equal(f"{what}: {header}", read, [expected])
        checks.equal(f"{what}: addresses in {header}", [one.addr_spec for one in message[header].addresses], [expected[1]])
    # What looks like an encoded word is not to be decoded.
    name = NAMES[customer].replace("=?", "= ?")
    subject = f"Grüße an {name} ☕" if is_letter else f"Your booking, {name}"
    checks.equal(f"{what}: Subject", message["Subject"], subject)
    allowed = ["dkim-signature", "from", "to", "subject", "date", "message-id", "mime-version", "content-type"]
    allowed += ["reply-to", "list-unsubscribe", "list-unsubscribe-post", "feedback-id"] if is_letter else ["content-transfer-encoding"]
    checks.equal(f"{what}: headers", sorted(name.lower() for name in message.keys()), sorted(allowed))
    checks.that(f"{what}: no bare line breaks", not re.search(rb"(?<!\r)\n|\r(?!\n)", mail.bytes))
    checks.that(f"{what}: lines of 998 bytes at most", all(len(line) <= 998 for line in mail.bytes.split(b"\r\n")))
    head = mail.bytes.split(b"\r\n\r\n", 1)[0]
    checks.that(f"{what}: headers are ASCII", head.isascii(), head)
    if not is_letter:
        checks.equal(f"{what}: type", message.get_content_type(), "text/plain")
        checks.equal(f"{what}: text", text_of(message), f"Dear {NAMES[customer]}, it is booked.")
        return

    checks.equal(f"{what}: type", message.get_content_type(), "multipart/alternative")
    parts = list(message.iter_parts())
    types = [(part.get_content_type(), part.get_content_charset()) for part in parts]
    checks.equal(f"{what}: parts", types, [("text/plain", "utf-8"), ("text/html", "utf-8")])
    [link] = re.findall(r"^<(https://[^>]+)>$", message["List-Unsubscribe"].strip()) or [""]
    checks.that(f"{what}: the link to unsubscribe", link.startswith(f"{PUBLIC_URL}/u/"), message["List-Unsubscribe"])
    checks.equal(f"{what}: one click", message["List-Unsubscribe-Post"], "List-Unsubscribe=One-Click")
    text = (
        f"Guten Tag {NAMES[customer]},\n\n.a line that begins with a dot\n..\nÄpfel, Öl und 🍎; a line that is longer than what fits into "
        "a line of a mail, which has seventy-eight characters or so.\n\n"
        f"Abbestellen: {link}\n{POSTAL_ADDRESS}"
    )
    checks.equal(f"{what}: text", text_of(parts[0]), text)
    page = text_of(parts[1])
    name = NAMES[customer]
    for text in [f'<a href="{link}">Abbestellen</a>, {POSTAL_ADDRESS}', f"Nur heute: 20 % für {name}<", f"Guten Tag {name}<"]:
        checks.that(f"{what}: {text!r} in the HTML", text in html.unescape(page), page)
    tags = ["html", "body", "div", "/div", "p", "/p", "p", "a", "/a", "/p", "/body", "/html"]
    checks.equal(f"{what}: tags of the HTML", re.findall(r"<(/?[a-z]+)", page), tags)


def decoded(header):
    return str(email.header.make_header(email.header.decode_header(header)))


def text_of(part):
    return part.get_content().replace("\r\n", "\n").rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
