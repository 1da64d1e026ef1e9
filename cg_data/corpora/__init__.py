"""Where recordings come from: a user's folder (`folder`) or the embedded corpus (`synthetic`)."""
