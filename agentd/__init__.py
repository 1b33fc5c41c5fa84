"""agentd: a self-hosted WebSocket agent server on a durable log. Read the code in the order the README gives."""

__version__ = "0.1.0"
