"""Bringing a node's pod network back, rung by rung, without breaking the pods that still work."""
