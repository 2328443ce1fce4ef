"""How much one user or one address may do in a time."""
