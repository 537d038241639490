"""What the fleet's paths carry: which are measured, what the measurements mean, and what eats large packets."""
