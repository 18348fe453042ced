"""What is kept of finished work: each file says whose it is and has a hash; one that does not verify is no loss.

The hash notices accidents, cut files and edits; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from topocompress.errors import KeptWarning
from topocompress.runtime.borders import reason

_KEY, _HASH = "key", "sha256"


def sealed(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Plain data with what it belongs to and its hash.

    Args:
        content: What is kept; it has neither ``key`` nor ``sha256``.
        key: Follows from everything that the content depends on.
    """
    whole = {**content, _KEY: key}
    return {**whole, _HASH: _digest(whole)}


def unsealed(content: Any, key: str) -> dict[str, Any]:
    """The plain data of :func:`sealed`; files of versions that wrote neither key nor hash pass.

    Raises:
        ValueError: It is no object, was edited, or belongs elsewhere.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    found = dict(content)
    if _HASH in found and found.pop(_HASH) != _digest(found):
        raise ValueError("it was edited: its hash does not match")
    if found.pop(_KEY, key) != key:
        raise ValueError("it belongs to other work")
    return found


def unused(place: Path, errors: Mapping[str, Exception]) -> None:
    """Say that files which are kept cannot be used, if there are any.

    Args:
        place: Their folder, or the file.
        errors: What is wrong, by name.
    """
    if errors:
        first, error = next(iter(errors.items()))
        many = f"{len(errors)} files" if len(errors) > 1 else first
        why = f"{first}: {why_not(error)}" if len(errors) > 1 else why_not(error)
        warnings.warn(f"not used, and done again: {many} of {place} ({why})", KeptWarning, stacklevel=3)


def why_not(error: Exception) -> str:
    """Why content was refused, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"
    if type(error) is ValueError:
        return str(error).split("\n")[0]
    return reason(error)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
