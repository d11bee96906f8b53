"""A vision-language model as this project uses it: load it, turn a conversation into tokens, make a batch."""
