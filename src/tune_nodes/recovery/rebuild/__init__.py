"""Rebuild a node's CNI state: steps that can be carried on by anybody, from what node and API server say is done."""
