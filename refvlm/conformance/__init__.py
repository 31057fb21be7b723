"""Conformance: which numbers of another implementation, in any language, are wrong, and why. See README.md here."""
