"""Network policies of every kind: which decide, how they are set aside in an emergency, and how they come back."""
