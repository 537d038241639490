"""The controller side of tune-nodes: profiles, waves, runs and the command line."""
