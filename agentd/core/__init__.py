"""What is decided: plain functions over values. No await, clock, randomness, files."""
