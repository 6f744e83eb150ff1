"""What Schemathesis needs to know of our answers."""

import json

import schemathesis


@schemathesis.deserializer("application/x-ndjson")
def last_line(_context, response):
    """A stream's schema is that of a line; the last has the summary."""
    return json.loads(response.content.decode().splitlines()[-1])
