"""What is kept: the durable log and what is derived from it."""
