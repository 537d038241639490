"""Opening: the least that lets traffic through again, with a way back that is armed first."""
