"""Disposable bare Debian hosts, a network around them and a registry, on one Linux machine."""
