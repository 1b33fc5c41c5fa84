"""What is said: frames, errors, codec. Pure; imports msgspec only."""
