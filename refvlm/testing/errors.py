"""What is raised where a test comes to no end."""

__all__ = ["InconclusiveError"]


class InconclusiveError(AssertionError):
    """The planned draws were not enough to say either; nothing is wrong so far, and nothing is proved."""
