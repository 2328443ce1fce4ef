"""What the commands beside `serve` do. They work without the extra `[server]` as far as they can."""
