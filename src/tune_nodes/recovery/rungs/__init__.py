"""The rungs of the ladder, one module each; ladder.RUNGS lists them."""
