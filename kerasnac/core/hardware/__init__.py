"""What networks run on, and what may estimate what they cost."""
