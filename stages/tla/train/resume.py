"""Unfinished work on disk, so that a run stopped at any moment continues.

Kept beside DVC's outputs, not among them: DVC deletes a stage's outputs when it starts the stage
again, and a finished stage must not depend on whether it was ever interrupted.
"""

import hashlib
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import torch

SECONDS = 30    # between two saves; a small model's whole training takes less and is never saved
DIGEST = 32     # bytes of SHA-256, before what they are of


class Resume:
    """One file of state under data/unfinished, valid only for the `key` it was written with."""

    def __init__(self, name: str, key: str, seconds: float = SECONDS):
        self.path = Path("data", "unfinished", f"{name}.pt")
        self.key, self.seconds = key, seconds
        self.saved = time.monotonic()

    def load(self, device: torch.device) -> dict | None:
        """The state kept last, or None if there is none of this key.

        A file that is not as it was written is deleted, with a warning.
        """
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        digest, packed = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(packed).digest() != digest:
            print(f"{self.path}: is damaged and not used; its work is done again", file=sys.stderr)
            self.forget()
            return None
        kept = torch.load(BytesIO(packed), map_location=device, weights_only=True)
        return kept["state"] if kept["key"] == self.key else None

    def keep(self, state: Callable[[], dict]) -> None:
        """Save state() if the last save is long enough ago; the file is always whole or absent."""
        if time.monotonic() - self.saved < self.seconds:
            return
        packed = BytesIO()
        torch.save({"key": self.key, "state": state()}, packed)
        content = packed.getvalue()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        try:
            unfinished.write_bytes(hashlib.sha256(content).digest() + content)
            unfinished.replace(self.path)
        finally:
            unfinished.unlink(missing_ok=True)      # a full disk keeps no half of it
        self.saved = time.monotonic()

    def forget(self) -> None:
        """Delete the state of finished work."""
        self.path.unlink(missing_ok=True)
