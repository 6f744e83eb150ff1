"""The two roles of PostgreSQL, made by the statements of the operations guide, with other names: roles are the whole installation's."""

import re
import subprocess
from urllib.parse import urlsplit

from chart import CHART

SECTION = r"^## Roles of the database$.*?^```sql$(.*?)^```$"


class Roles:
    """A database with its owner, and with servers that may read and write rows."""

    def __init__(self, postgres, database):
        self.postgres, self.database = postgres, database
        place = urlsplit(postgres)
        self.server, self.owner = (
            f"{place.scheme}://{database}_{role}:{password}@{place.hostname}:{place.port or 5432}/{database}"
            for role, password in (("server", "another%20one"), ("owner", "one%20password"))
        )

    def make(self):
        statements = re.search(SECTION, (CHART / "OPERATIONS.md").read_text(), re.MULTILINE | re.DOTALL)[1]
        self.type(statements.replace("campaigns", self.database).replace("campaign_", f"{self.database}_"))

    def remove(self):
        self.type(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE);"
                  f"DROP ROLE IF EXISTS {self.database}_server; DROP ROLE IF EXISTS {self.database}_owner;")

    def type(self, statements):
        subprocess.run(["psql", self.postgres, "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1"], input=statements, text=True,
                       capture_output=True, check=True)
