"""Every Secret that a value set of the chart names, as somebody would have made it: keys, certificates, tokens, an identity provider; and a
mail server, which value sets reach as `MAIL_SERVER`.
"""

import base64
import hashlib
import http.server
import json
import secrets
import subprocess
import threading
import time

import nacl.signing
from aiosmtpd.controller import Controller

# Where the mail server of the cluster is.
MAIL_SERVER = "smtp://mail.crm.svc:25"

# What callers are there, by token, and what they may.
ROLES = {"tick": "scheduler", "test": "caller", "admin": "admin"}


class MadeUp:
    """Secrets of one installation, by name and key. The database is at `url`, and for its owner at `owner_url`; files are made in `folder`."""

    def __init__(self, folder, url, owner_url):
        self.folder = folder
        self.tokens = {name: secrets.token_hex(32) for name in ROLES}
        self.provider = Provider()
        authority = self.authority("authority")
        servers = self.certificate("server", authority, "serverAuth", "shop-campaign-automation", "crm-campaigns", "localhost")
        self.client = self.certificate("client", authority, "clientAuth", "client.shop.example")
        webhooks = f"whsec_{random_key()}"
        self.values = {
            "campaign-database": {"url": url, "database-url": url},
            "campaign-database-owner": {"owner-url": owner_url},
            "campaign-secret": {"key": (key := random_key()), "secret-key": key},
            "campaign-tls": servers,
            "campaign-authority": {"authority.pem": servers["ca.crt"]},
            "campaign-authorities": {"authorities.pem": servers["ca.crt"]},
            "campaign-clients": {"clients.pem": servers["ca.crt"]},
            "campaign-callers": {"who.yaml": self.callers(), "callers.yaml": self.callers()},
            "campaign-jwks": {"keys.json": self.provider.keys()},
            "campaign-tick": {"bearer": self.tokens["tick"]},
            "campaign-test": {"bearer": self.tokens["test"]},
            "campaign-tick-jwt": {"token": self.provider.token(ROLES["tick"])},
            "campaign-tick-token": {"token": self.tokens["tick"]},
            "campaign-test-token": {"token": self.tokens["test"]},
            "campaign-tick-tls": self.client,
            "campaign-test-tls": self.client,
            "campaign-webhooks": {"secret": webhooks, "webhook-secret": webhooks},
            "campaign-events": {"events-secret": f"whsec_{random_key()}"},
            "campaign-dkim": {"key.pem": self.openssl("genpkey", "-algorithm", "ed25519")},
            "campaign-smtp": {"smtp-url": "smtps://user:password@mail.shop.example:465"},
            "campaign-twilio": {
                "sms-url": f"twilio://AC{'0' * 32}:{'1' * 32}@api.twilio.com",
                "phone-url": f"twilio://AC{'0' * 32}:{'1' * 32}@api.twilio.com",
            },
            "campaign-tasks": {"webhook-url": "https://crm.shop.example/tasks"},
        }

    def callers(self):
        """The callers file, which is YAML, and so may be JSON."""
        digest = {name: hashlib.sha256(token.encode()).hexdigest() for name, token in self.tokens.items()}
        return json.dumps({"callers": [{"name": name, "roles": [ROLES[name]], "token_sha256": digest[name]} for name in ROLES]})

    def admin(self, tls, jwt):
        """What `campaignctl` needs to do anything: variables."""
        files = {"CAMPAIGN_CA_FILE": self.client["ca.crt"], "CAMPAIGN_CLIENT_CERT_FILE": self.client["tls.crt"],
                 "CAMPAIGN_CLIENT_KEY_FILE": self.client["tls.key"]} if tls else {}
        for name, text in files.items():
            (self.folder / name).write_text(text)
        return {**{name: str(self.folder / name) for name in files},
                "CAMPAIGN_TOKEN": self.provider.token("admin") if jwt else self.tokens["admin"]}

    def authority(self, name):
        self.openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                     "-out", f"{name}.crt", "-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign")
        return name

    def certificate(self, name, authority, usage, *names):
        """A certificate with its key, as cert-manager puts them into a Secret."""
        self.openssl("req", "-newkey", "ed25519", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        alternatives = ",".join(f"DNS:{one}" for one in [*names, *(f"{one}.default.svc" for one in names)])
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\nextendedKeyUsage={usage}\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial",
                     "-days", "1", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
        read = {"tls.crt": f"{name}.crt", "tls.key": f"{name}.key", "ca.crt": f"{authority}.crt"}
        return {key: (self.folder / file).read_text() for key, file in read.items()}

    def openssl(self, *arguments):
        return subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=True).stdout


class MailServer:
    """Takes every mail, without a password or TLS."""

    def __init__(self, port):
        self.mails = []
        self.url = f"smtp://127.0.0.1:{port}"
        self.controller = Controller(self, hostname="127.0.0.1", port=port)
        self.controller.start()

    async def handle_DATA(self, _server, _session, envelope):
        self.mails.append(envelope)
        return "250 taken"

    def stop(self):
        self.controller.stop()


class Provider:
    """An identity provider: its tokens, and its keys at a URL of this machine."""

    issuer, audience = "https://id.example/realms/crm", "campaigns"

    def __init__(self):
        self.key = nacl.signing.SigningKey.generate()
        keys = self.keys().encode()

        class Keys(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(keys)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/keys"

    def keys(self):
        return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "use": "sig", "alg": "EdDSA",
                                     "x": text_of(bytes(self.key.verify_key))}]})

    def token(self, role):
        claims = {"iss": self.issuer, "aud": self.audience, "sub": "somebody", "iat": int(time.time()), "exp": int(time.time()) + 600,
                  "roles": [role], "realm_access": {"roles": [role]}}
        signed = ".".join(text_of(json.dumps(part).encode()) for part in ({"alg": "EdDSA", "kid": "1", "typ": "JWT"}, claims))
        return f"{signed}.{text_of(self.key.sign(signed.encode()).signature)}"


def random_key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


def text_of(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
