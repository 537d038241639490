"""Whether traffic really flows after a reset: connections that are made, from where the source's policies hold."""
