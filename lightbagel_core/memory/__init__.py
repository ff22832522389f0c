"""What lies on the device when, and what a run needs of it."""
