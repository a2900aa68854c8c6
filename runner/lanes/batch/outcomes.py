"""How a shard leaves its steps without being collected."""


class Undecided(Exception):
    """It cannot be known if a shard's requests were paid for, or the service takes no batch: a person must decide."""


class Detached(Exception):
    """A batch keeps running at the service, or waits to be created, and the run leaves it there (`--detach`)."""
