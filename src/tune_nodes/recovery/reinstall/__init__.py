"""A CNI put back as it was recorded: from the cluster while it worked, or from the user's own manifests."""
