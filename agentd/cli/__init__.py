"""The one command, agentd."""
