"""The commands behind the Makefile: python -m roles.command.NAME."""
