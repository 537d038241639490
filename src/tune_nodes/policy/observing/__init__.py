"""Which connections a namespace's pods really have, as their nodes see them."""
