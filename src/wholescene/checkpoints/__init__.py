"""Released checkpoints to ours and back, by tables of names; reading them without running their code; our own format."""
