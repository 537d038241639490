"""Keeping: backups of policies, deleting what is backed up, and putting it back."""
