"""Judging: which policies select a pod and whether they let a connection through. Pure, by each engine's own rules."""
