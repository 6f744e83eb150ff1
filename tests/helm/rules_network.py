"""K13: what the chart's network policies let through, worked out as Kubernetes does, and held against who has to reach whom."""

import ipaddress

from chart import component, of_kind, pod_of, purges_of, ticks_of

ELSEWHERE = {"app": "crm"}

# Where a server must never get, whatever the values say: clouds have their metadata there.
METADATA = "169.254.169.254"
PRIVATE = "10.1.2.3"
PUBLIC = "8.8.8.8"


def check_network(objects, values):
    policies = of_kind(objects, "NetworkPolicy")
    if not policies:
        return
    for rendered in objects:
        pod = pod_of(rendered)
        if pod and not any(selects(policy["spec"]["podSelector"], pod["metadata"]["labels"]) for policy in policies):
            yield f"{rendered['kind']} {rendered['metadata']['name']}: no policy closes its pods"
    for policy in policies:
        if sorted(policy["spec"]["policyTypes"]) != ["Egress", "Ingress"]:
            yield f"{policy['metadata']['name']} leaves a direction open"

    [deployment] = of_kind(objects, "Deployment")
    server = pod_of(deployment)["metadata"]["labels"]
    for client in [*ticks_of(objects), *of_kind(objects, "Pod")]:
        labels = pod_of(client)["metadata"]["labels"]
        name = client["metadata"]["name"]
        if not reaches(policies, labels, server, "grpc"):
            yield f"{name} can't reach the servers"
        if reaches(policies, server, labels, "grpc") or reaches_address(policies, labels, PUBLIC, 443):
            yield f"{name} can be reached, or reach more than the servers"
    for peers, port in (("callers", "grpc"), ("scrapers", "monitor")):
        if port == "monitor" and not values["monitor"]["enabled"]:
            continue
        for peer in values["networkPolicy"][peers]:
            labels = peer.get("podSelector", {}).get("matchLabels", ELSEWHERE)
            if "ipBlock" not in peer and not reaches(policies, labels, server, port, from_outside=True):
                yield f"{peers} can't reach the servers' port {port}"

    database = values["networkPolicy"]["database"]["port"]
    alone = [*of_kind(objects, "Job"), *purges_of(objects)]
    for rendered in alone:
        labels = pod_of(rendered)["metadata"]["labels"]
        if reaches(policies, labels, server, "grpc") or reaches_address(policies, labels, PUBLIC, 443):
            yield f"{component(rendered)} can reach more than the database"
        if rules_of(policies, labels, "ingress"):
            yield f"{component(rendered)} can be reached"
    [peer] = values["networkPolicy"]["database"]["to"] or [{"ipBlock": {"cidr": PRIVATE}}]
    where = ipaddress.ip_network(peer["ipBlock"]["cidr"])[0]
    for rendered in [deployment, *alone]:
        labels = pod_of(rendered)["metadata"]["labels"]
        if not values["sqlite"]["enabled"] and not reaches_address(policies, labels, where, database):
            yield f"{component(rendered)} can't reach the database"
        if not reaches_address(policies, labels, PRIVATE, 53):
            yield f"{component(rendered)} can't ask for names"
    for port in values["networkPolicy"]["providerPorts"]:
        if not reaches_address(policies, server, PUBLIC, port):
            yield f"the servers can't reach providers on port {port}"
        if reaches_address(policies, server, METADATA, port):
            yield f"the servers reach a cloud's metadata on port {port}"
        if reaches_address(policies, server, PRIVATE, port) != values["server"]["allowPrivateDestinations"]:
            yield f"the servers reach private addresses on port {port}, or don't where they may"


def selects(selector, labels):
    """Whether a label selector means these labels."""
    for requirement in selector.get("matchExpressions", []):
        assert requirement["operator"] == "In", requirement
        if labels.get(requirement["key"]) not in requirement["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def reaches(policies, source, target, port, from_outside=False):
    """Whether pods of this namespace reach one another. What is outside of the release is closed by nobody."""
    inward = rules_of(policies, target, "ingress")
    if not any(has_port(rule, port) and has_pod(rule.get("from"), source) for rule in inward):
        return False
    outward = rules_of(policies, source, "egress")
    return from_outside or any(has_port(rule, port) and has_pod(rule.get("to"), target) for rule in outward)


def reaches_address(policies, source, address, port):
    return any(has_port(rule, port) and has_address(rule.get("to"), address) for rule in rules_of(policies, source, "egress"))


def rules_of(policies, labels, direction):
    return [rule for policy in policies if selects(policy["spec"]["podSelector"], labels)
            for rule in policy["spec"].get(direction, [])]


def has_port(rule, port):
    return "ports" not in rule or any(allowed["port"] == port for allowed in rule["ports"])


def has_pod(peers, labels):
    # The namespace of a peer is taken for this one: what is asked is about pods.
    return peers is None or any(
        selects(peer.get("podSelector", {}), labels) for peer in peers if "ipBlock" not in peer
    )


def has_address(peers, address):
    if peers is None:
        return True
    address = ipaddress.ip_address(address)
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
    return any(
        address in ipaddress.ip_network(block["cidr"])
        and not any(address in ipaddress.ip_network(hole) for hole in block.get("except", []))
        for block in blocks
    )
