"""How agentd is reached: WebSocket and HTTP on one port."""
