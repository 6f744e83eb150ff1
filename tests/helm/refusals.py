"""Values that the chart has to refuse, on top of ci/minimal.yaml, and a word of the message."""

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor

from chart import CHART, ROOT, template


REFUSED = {
    "a misspelled key": ("server: {replica: 3}", "replica"),
    "an unknown key at the top": ("replicaCount: 3", "replicaCount"),
    "no server at all": ("server: {replicas: 0}", "replicas"),
    "a zone inside the schedule": ('ticks: {hourly: {schedule: "TZ=UTC 0 * * * *"}}', "schedule"),
    "a macro as the schedule": ('ticks: {daily: {schedule: "@daily"}}', "schedule"),
    "a service open to the world": ("service: {type: LoadBalancer}", "service.type has to be ClusterIP"),
    "a type of service that is none": ("service: {type: NodePort}", "type"),
    "a token in a URL": ('channels: {sms: {url: "twilio://AC1:token@api.twilio.com"}}', "url"),
    "a password in a URL": ('channels: {email: {url: "smtp://user:password@mail.example.com", from: a@b.example}}', "url"),
    "a login in a webhook's URL": ('channels: {interaction: {url: "https://user:password@crm.example"}}', "url"),
    "a secret where its name belongs": ("webhookSecret: {secret: whsec_x}", "webhookSecret"),
    "a webhook without a secret": ('channels: {interaction: {url: "https://crm.example"}}', "webhookSecret.existingSecret"),
    "a gateway without a secret": ('channels: {sms: {url: "gateway+https://sms.example"}}', "webhookSecret.existingSecret"),
    "mail from nobody": ('channels: {email: {url: "smtp://mail.example.com"}}', "channels.email.from is missing"),
    "a DKIM key without a selector": ("channels: {email: {dkim: {existingSecret: campaign-dkim}}}", "channels.email.dkim"),
    "a selector without a key": ("channels: {email: {dkim: {selector: campaigns}}}", "channels.email.dkim"),
    "a channel that goes nowhere": ('channels: {phone: {url: ""}}', "channels.phone has neither"),
    "a public URL without TLS": ('server: {publicUrl: "http://mail.shop.example"}', "publicUrl"),
    "hours that are none": ('channels: {sms: {hours: "8-21"}}', "hours"),
    "a rate without a time": ("channels: {email: {rate: 10}}", "rate"),
    "eleven segments": ("channels: {sms: {maxSegments: 11}}", "maxSegments"),
    "a circuit without a pause": ("circuits: {probe: 0s}", "probe"),
    "no database": ('database: {existingSecret: ""}', "database.existingSecret is missing"),
    "no secret key": ('secretKey: {existingSecret: ""}', "secretKey.existingSecret is missing"),
    "no image": ('image: {repository: ""}', "image.repository is missing"),
    "a password among the arguments": ('server: {extraArgs: ["--lease", "smtp://user:password@mail.example.com"]}', "extraArgs"),
    "a secret among the arguments": ("server: {extraArgs: [--webhook-secret, whsec_x]}", "extraArgs"),
    "servers open to all, unsaid": ("server: {insecurePublic: false}", "set tls.existingSecret and one of"),
    "TLS without callers": ("{server: {insecurePublic: false}, tls: {existingSecret: t}}", "set tls.existingSecret and one of"),
    "callers without TLS": ("{server: {insecurePublic: false}, auth: {callers: {existingSecret: c}}}", "set tls.existingSecret and one of"),
    "TLS without a port for probes": ("{tls: {existingSecret: t}, monitor: {enabled: false}}", "tls.existingSecret needs monitor.enabled"),
    "clients' certificates without TLS": ("tls: {clientAuthority: {existingSecret: a}}", "tls.clientAuthority needs tls.existingSecret"),
    "ticks that nobody knows": ("auth: {callers: {existingSecret: c}}", "ticks.credentials has neither"),
    "ticks without a certificate": (
        "{tls: {existingSecret: t, clientAuthority: {existingSecret: a}}, ticks: {credentials: {token: {existingSecret: k}}}}",
        "ticks.credentials.certificate.existingSecret is missing",
    ),
    "tokens for anybody": ('auth: {jwt: {issuer: "https://id.example", jwksUrl: "https://id.example/keys"}}', "auth.jwt needs issuer, audience"),
    "tokens that nobody can check": ('auth: {jwt: {issuer: "https://id.example", audience: a}}', "auth.jwt needs issuer, audience"),
    "two sources of keys": (
        'auth: {jwt: {issuer: i, audience: a, jwksUrl: "https://id.example/keys", jwks: {existingSecret: k}}}', "has both jwksUrl",
    ),
    "keys over a line that anybody changes": ('auth: {jwt: {jwksUrl: "http://id.example/keys"}}', "jwksUrl"),
    "a password for a collector": ('server: {otlpEndpoint: "https://user:password@otlp.example"}', "otlpEndpoint"),
    "two servers with a file": ('{sqlite: {enabled: true}, database: {existingSecret: ""}, server: {replicas: 2}}', "replicas"),
    "more servers with a file": (
        '{sqlite: {enabled: true}, database: {existingSecret: ""}, server: {replicas: 1}, autoscaling: {enabled: true}}', "autoscaling",
    ),
    "a purge of a file that the server has to itself": (
        '{sqlite: {enabled: true}, database: {existingSecret: ""}, server: {replicas: 1}, purge: {enabled: true}}', "purge",
    ),
    "a purge of what is new": ("purge: {enabled: true, olderThan: 29d}", "olderThan"),
    "an age in hours": ("purge: {enabled: true, olderThan: 9600h}", "olderThan"),
    "a macro as the purge's schedule": ('purge: {schedule: "@weekly"}', "schedule"),
    "an owner of a file": (
        '{sqlite: {enabled: true}, database: {existingSecret: ""}, server: {replicas: 1}, migration: {database: {existingSecret: o}}}', "migration",
    ),
    "two databases": ("{sqlite: {enabled: true}, server: {replicas: 1}}", "database"),
    "a file that several nodes mount": ("sqlite: {accessMode: ReadWriteMany}", "accessMode"),
    "fewer servers than the fewest": ("autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 3}", "maxReplicas is below"),
    "a share of nothing": (
        "{autoscaling: {enabled: true}, server: {resources: {requests: {cpu: null}}}}", "autoscaling needs server.resources.requests.cpu",
    ),
    "the monitor on the port for calls": ("monitor: {port: 50051}", "port"),
    "metrics that nobody measures": (
        "{monitor: {enabled: false}, metrics: {dashboard: {enabled: true}}}", "metrics needs monitor.enabled",
    ),
    "half a partition": ("ticks: {partitions: 0}", "partitions"),
    "a peer that is none": ("networkPolicy: {callers: [{namespace: crm}]}", "callers"),
    "a rule for ports of no provider": ("networkPolicy: {providerPorts: []}", "providerPorts"),
}


def check_refusals(helm):
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda case: refused(helm, case[0]), REFUSED.values())
    for (what, (values, word)), (accepted, said) in zip(REFUSED.items(), results):
        if accepted:
            yield f"values are accepted with {what}: {values}"
        elif word not in said:
            yield f"values are refused with {what}, but not for it: {said}"


def refused(helm, values):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(values)
        file.flush()
        result = template(helm, "shop", CHART / "ci/minimal.yaml", file.name)
    return result.returncode == 0, result.stderr


def check_secret_flags(helm):
    """Each flag whose value the programs hide is refused among the arguments."""
    hidden = set()
    for source in [ROOT / "src/config.rs", *ROOT.glob("src/config/*.rs")]:
        for attributes, name in re.findall(r"#\[arg\(((?:[^()]|\([^()]*\))*)\)\]\s*pub (\w+):", source.read_text()):
            if "hide_env_values = true" in attributes:
                hidden.add(name.replace("_", "-"))
    if "database-url" not in hidden:
        yield f"this check finds no flags that are hidden: {sorted(hidden)}"
    arguments = [argument for flag in sorted(hidden) for argument in (f"--{flag}", f"--{flag}=x")]
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda argument: refused(helm, f"server: {{extraArgs: ['{argument}']}}"), arguments)
    for argument, (accepted, _) in zip(arguments, results):
        if accepted:
            yield f"server.extraArgs takes {argument}, which holds a secret"
