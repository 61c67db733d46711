"""The services and everything derived from them: pure functions, no host, no pyinfra."""
