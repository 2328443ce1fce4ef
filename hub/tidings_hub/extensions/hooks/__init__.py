"""HTTP hooks: a backend in any language is asked who may connect, subscribe and publish (PROTOCOL.md section 12)."""
