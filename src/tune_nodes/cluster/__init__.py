"""What a cluster's API server knows of the nodes, and what is asked of it: no new pods, and moving pods away."""
