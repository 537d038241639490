"""Owning: who else writes a policy, and holding a GitOps controller still."""
