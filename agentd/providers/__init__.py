"""Who thinks: one protocol, the providers that speak it."""
