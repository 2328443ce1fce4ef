"""Integrations, one module per framework. Import only the module of your framework."""
