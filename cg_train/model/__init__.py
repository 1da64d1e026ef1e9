"""The vision-language model: how it is built, loaded, fed, exported and asked. Nothing outside this package opens a checkpoint."""
