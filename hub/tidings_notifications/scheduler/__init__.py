"""What happens without a request: events are published after a commit, and old rows are swept."""
