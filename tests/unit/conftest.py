"""What holds for every unit test."""

from __future__ import annotations

from hypothesis import settings

# A machine at work may let any one example wait for its turn: that says nothing of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
