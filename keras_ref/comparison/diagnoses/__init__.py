"""What an error looks like."""

from typing import Any


def explain_parting(both: Any, row: Any) -> str:
    return ""
