"""The roles: what a host becomes, one module a step."""
